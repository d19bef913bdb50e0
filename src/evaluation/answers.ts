/** Comparing a written answer with its references. */
import { punctuation, splitSpaces, strip } from "./python.ts";

const marks = new RegExp(`[${punctuation}]`, "g");

/**
 * Whether the answer equals a reference, spaces included but not case and punctuation: the harness's exact_match with
 * ignore_case and ignore_punctuation.
 */
export function exactMatch(answer: string, references: readonly string[], ignore?: RegExp): boolean {
  const normalise = (text: string): string => {
    const kept = ignore ? text.replaceAll(ignore, "") : text;
    return kept.toLowerCase().replaceAll(marks, "");
  };
  const normalised = normalise(answer);
  return references.some((reference) => normalise(reference) === normalised);
}

/**
 * Computes the F1 of TriviaQA's own script (Joshi et al. 2017, following SQuAD), from 0 to 1: words in common, without case, punctuation and
 * articles; the best over all references.
 */
export function bestF1(answer: string, references: readonly string[]): number {
  const words = answerWords(answer);
  return references.reduce((best, reference) => Math.max(best, f1(words, answerWords(reference))), 0);
}

const triviaMarks = new RegExp(`[${punctuation}‘’´\`]`, "g");

function answerWords(text: string): string[] {
  const plain = text
    .replaceAll("_", " ")
    .toLowerCase()
    .replaceAll(triviaMarks, " ")
    .replaceAll(/\b(?:a|an|the)\b/g, " ");
  const trimmed = strip(plain);
  return trimmed === "" ? [] : splitSpaces(trimmed);
}

function f1(answer: readonly string[], reference: readonly string[]): number {
  const common = overlap(answer, reference);
  if (common === 0) return 0;
  const precision = common / answer.length;
  const recall = common / reference.length;
  return (2 * precision * recall) / (precision + recall);
}

/** Counts the items that two lists share, each as often as it is in both. */
export function overlap(a: readonly string[], b: readonly string[]): number {
  const left = new Map<string, number>();
  for (const item of b) left.set(item, (left.get(item) ?? 0) + 1);
  let common = 0;
  for (const item of a) {
    const count = left.get(item) ?? 0;
    if (count === 0) continue;
    left.set(item, count - 1);
    common++;
  }
  return common;
}
