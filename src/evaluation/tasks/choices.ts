/** How data sets write choices and the right one among them. */
import { FormatError } from "../../errors.ts";
import { stripStart } from "../python.ts";
import type { Row } from "../row.ts";

/** Texts to choose from, and the index of the right one. */
export type Choices = { readonly choices: readonly string[]; readonly gold: number };

/**
 * Reads `choices: [text]` with `gold` (our own files); `choices: { text: [], label: [] }` with `answerKey` (the Hub's ARC and
 * OpenBookQA); `question.choices: [{ text, label }]` with `answerKey` (AI2's files).
 */
export function readChoices(row: Row): Choices {
  if (row.has("gold")) return inRange(row, { choices: row.texts("choices"), gold: row.integer("gold") });
  if (Array.isArray(row.fields["choices"])) return byLabel(row, row.rows("choices"));
  if (row.has("choices") || typeof row.fields["question"] === "string") {
    const choices = row.row("choices");
    return { choices: choices.texts("text"), gold: goldOf(row, choices.texts("label")) };
  }
  return byLabel(row, row.row("question").rows("choices"));
}

function byLabel(row: Row, choices: readonly Row[]): Choices {
  const labels = choices.map((choice) => choice.text("label"));
  return { choices: choices.map((choice) => choice.text("text")), gold: goldOf(row, labels) };
}

function goldOf(row: Row, labels: readonly string[]): number {
  const answer = stripStart(row.text("answerKey"));
  const gold = labels.indexOf(answer);
  if (gold >= 0) return gold;
  throw new FormatError(
    `${row.where}: "answerKey" must be one of ${labels.join(", ")}, got ${JSON.stringify(answer)}.`,
  );
}

/** Checks choices. @throws {FormatError} if `gold` is the index of none. */
export function inRange(row: Row, choices: Choices): Choices {
  if (choices.gold >= 0 && choices.gold < choices.choices.length) return choices;
  throw new FormatError(
    `${row.where}: the right choice must be one of 0 to ${choices.choices.length - 1}, got ${choices.gold}.`,
  );
}

/** Reads the text of a question, which AI2's files keep one level down. */
export function readStem(row: Row): string {
  if (row.has("question_stem")) return row.text("question_stem");
  return typeof row.fields["question"] === "string" ? row.text("question") : row.row("question").text("stem");
}
