/** Training rows as the program reads them: tokens and the targets after them, one sequence after the other. */

/**
 * T + 1 token ids: each but the last predicts its successor. With `learn`, only tokens i with learn[i] = 1 are targets
 * (learn[0] has no meaning: nothing predicts the first token).
 */
export type Row = ArrayLike<number> | { readonly tokens: ArrayLike<number>; readonly learn: ArrayLike<number> };

export type PackedRows = {
  /** rows × length; shorter rows are padded at their end, where no target sees them. */
  readonly tokens: Int32Array;
  /** -1: nothing to predict. */
  readonly targets: Int32Array;
  readonly length: number;
  /** Targets that count. */
  readonly count: number;
};

/** Tokens that a row feeds in: one fewer than it has. */
export function rowLength(row: Row): number {
  return ("tokens" in row ? row.tokens : row).length - 1;
}

/** @throws {RangeError} for ids outside the vocabulary, and rows longer than `limit`. */
export function packTrainingRows(rows: readonly Row[], vocabSize: number, limit: number): PackedRows {
  if (rows.length === 0) throw new RangeError("training rows: at least one was required, got none.");
  const length = Math.max(0, ...rows.map(rowLength));
  if (length > limit) {
    throw new RangeError(
      `training rows: at most ${limit + 1} tokens (the model's context and one), got ${length + 1}.`,
    );
  }
  const tokens = new Int32Array(rows.length * length);
  const targets = new Int32Array(rows.length * length).fill(-1);
  let count = 0;
  rows.forEach((row, index) => {
    const ids = "tokens" in row ? row.tokens : row;
    const learn = "tokens" in row ? row.learn : undefined;
    if (learn && learn.length !== ids.length) {
      throw new RangeError(`row ${index}: learn must be as long as tokens (${ids.length}), got ${learn.length}.`);
    }
    for (let i = 0; i < ids.length; i++) {
      const id = ids[i]!;
      if (!Number.isInteger(id) || id < 0 || id >= vocabSize) {
        throw new RangeError(`row ${index}: token ids below ${vocabSize} were required, got ${String(id)} at ${i}.`);
      }
      if (i < ids.length - 1) tokens[index * length + i] = id;
      if (i === 0 || (learn && learn[i] !== 1)) continue;
      targets[index * length + i - 1] = id;
      count++;
    }
  });
  return { tokens, targets, length, count };
}
