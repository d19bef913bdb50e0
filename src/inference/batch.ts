/** Rows that run together: of one text or of many, each token in its own cache row and at its own position. */
import { PLACE_WORDS, putPlace } from "../tensor/places.ts";

export type Batch = {
  readonly tokens: readonly number[];
  /** The cache row of each token. */
  readonly slots: readonly number[];
  /** (tokens, 3): where each stands in its text (tensor/places.ts). */
  readonly places: Int32Array;
  /** Tokens whose logits are asked for, by index; the same may be asked about several times. */
  readonly rows: readonly number[];
};

/** A part of one text that lies in cache rows `firstRow`, `firstRow + 1`, … from its beginning on. */
export type TextRows = {
  readonly tokens: readonly number[];
  /** The position of the first token. */
  readonly position: number;
  readonly firstRow: number;
  /** How many of the last tokens are asked about. */
  readonly outputs: number;
};

/** Parts of several texts as one batch, questions in their order. */
export function batchOf(texts: readonly TextRows[]): Batch {
  const tokens: number[] = [];
  const slots: number[] = [];
  const places = new Int32Array(texts.reduce((sum, { tokens }) => sum + tokens.length, 0) * PLACE_WORDS);
  const rows: number[] = [];
  for (const { tokens: own, position, firstRow, outputs } of texts) {
    for (const [i, token] of own.entries()) {
      if (i >= own.length - outputs) rows.push(tokens.length);
      putPlace(places, tokens.length, { start: firstRow, parent: -1, position: position + i });
      tokens.push(token);
      slots.push(firstRow + position + i);
    }
  }
  return { tokens, slots, places, rows };
}
