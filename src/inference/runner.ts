/**
 * What inference needs of a model on a device: one key/value cache, whose rows are filled and forgotten as the caller likes. A
 * batch is rows of any number of texts; forward and score are the same run with other questions.
 */
import type { Batch } from "./batch.ts";

export type Runner = {
  readonly vocabSize: number;
  /** Positions that one text may have. */
  readonly contextLength: number;
  /** Rows of the cache, for all texts together. */
  readonly cacheRows: number;
  /** Most tokens that one call takes. */
  readonly maxTokens: number;
  /** Most questions that one call answers. */
  readonly maxOutputs: number;
  /** Counts the changes of the weights: what was cached under an older number is worth nothing. */
  readonly version: number;
  /**
   * Runs the tokens of a batch and resolves to the logits after each of its `rows`: (rows, vocabSize), empty for none. The array
   * is the caller's to keep. On abort it rejects with the signal's reason; cache rows that are not in the batch stay intact.
   */
  forward(batch: Batch, signal?: AbortSignal): Promise<Float32Array>;
  /**
   * The same, answered on the device: (rows, 2), log P(target) in f32 as torch computes it, and 1 if the target is the likeliest
   * token, else 0.
   */
  score(batch: Batch, targets: readonly number[], signal?: AbortSignal): Promise<Float32Array>;
  /** Copies the keys and values of the first `length` cache rows out. */
  readCache(length: number): Promise<Uint8Array>;
  /** Puts back what `readCache(length)` gave. */
  writeCache(bytes: Uint8Array, length: number): Promise<void>;
  /** A number that follows from every weight as it is now. */
  digest(): Promise<string>;
};
