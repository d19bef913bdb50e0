/** Rows to train on, cut out of a stream of tokens. */
import type { Row } from "../rows.ts";
import type { TokenStream } from "./token-stream.ts";

export type { Row } from "../rows.ts";
/** A row of which only some tokens are learned. */
export type MaskedRow = Extract<Row, { readonly learn: unknown }>;

/** Rows by number. */
export type RowSource = {
  /** How many rows there are. */
  readonly count: number;
  /** How many targets count, in all rows. */
  readonly targets: number;
  read(index: number): Promise<Row>;
};

/**
 * Cuts a stream into windows of length + 1 tokens that overlap by one, so that each token of the stream is a target exactly once. Before the
 * first token stands the last one: the end-of-text token that stands before every other document. What the last
 * window lacks comes from the start again, and does not count.
 */
export function windowRows(stream: TokenStream, length: number): RowSource {
  const total = stream.length;
  return {
    count: Math.ceil(total / length),
    targets: total,
    async read(index) {
      const first = index * length; // the first target
      const counted = Math.min(length, total - first);
      if (first > 0 && counted === length) return stream.read(first - 1, length + 1);
      const tokens = new Uint32Array(length + 1);
      for (let done = 0; done <= length;) {
        const at = (first + total - 1 + done) % total;
        const part = await stream.read(at, Math.min(length + 1 - done, total - at));
        tokens.set(part, done);
        done += part.length;
      }
      return counted === length ? tokens : { tokens, learn: tokens.map((_, i) => (i >= 1 && i <= counted ? 1 : 0)) };
    },
  };
}

/** Makes a source of rows that are in memory. @param targets that count, in all of them. */
export function listRows(rows: readonly Row[], targets: number): RowSource {
  return { count: rows.length, targets, read: async (index) => rows[index]! };
}
