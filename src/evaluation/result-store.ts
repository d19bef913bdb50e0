/** What the model has already answered, so that an evaluation that was stopped goes on where it was. */
import type { EncodedPair } from "../inference/score.ts";

/** Keeps answers by the keys of their requests. */
export type ResultStore = {
  get(key: string): StoredResult | undefined;
  set(key: string, result: StoredResult): void;
};

/** An answer: a continuation's log-likelihood in nats, or a text. */
export type StoredResult = { readonly logprob: number; readonly isGreedy: boolean } | { readonly generated: string };

/** Makes the key of a continuation in its context. */
export function pairKey({ context, continuation }: EncodedPair): string {
  return hash([...context, -1, ...continuation]);
}

/** Makes the key of a prompt with its settings. */
export function generationKey(prompt: readonly number[], until: readonly string[], maxTokens: number): string {
  const settings = Array.from(until.join("\0"), (character) => character.codePointAt(0)!);
  return `g${hash([...prompt, -1, maxTokens, ...settings])}`;
}

/** 64 bits in two halves that multiply by different odd numbers (after FNV-1a): no two of a million requests meet. */
function hash(values: readonly number[]): string {
  let a = 0x811c9dc5;
  let b = 0x9e3779b9;
  for (const value of values) {
    a = Math.imul(a ^ value, 0x01000193);
    a ^= a >>> 15;
    b = Math.imul(b ^ value, 0x85ebca6b);
    b ^= b >>> 13;
  }
  return (a >>> 0).toString(16).padStart(8, "0") + (b >>> 0).toString(16).padStart(8, "0");
}
