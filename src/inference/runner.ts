import type { Branches } from "./branches.ts";

/**
 * What inference needs of a model on a device. One runner has one key/value cache; positions are filled from 0 on and
 * may be written again (a shorter `position` forgets what lay behind it).
 */
export type Runner = {
  readonly vocabSize: number;
  /** Positions that the cache holds. */
  readonly contextLength: number;
  /** Most tokens that one call of `forward` takes. */
  readonly maxTokens: number;
  /** Most rows of logits that one call of `forward` gives. */
  readonly maxOutputs: number;
  /**
   * Runs `tokens` (1 to maxTokens) at `position`, `position + 1`, … and resolves to the logits after the last `outputs`
   * of them: (outputs, vocabSize), empty for 0. The array is the caller's to keep. On abort it rejects with the signal's
   * reason; positions before `position` stay intact.
   */
  forward(tokens: ArrayLike<number>, position: number, outputs: number, signal?: AbortSignal): Promise<Float32Array>;
  /**
   * Runs rows of several texts at once. Resolves to (targets, 2): log P(target) in f32 as torch computes it, and 1 if the
   * target is the likeliest token, else 0. What cache rows from `position` on held is forgotten.
   */
  score(branches: Branches, signal?: AbortSignal): Promise<Float32Array>;
  /** Called before tokens run: true if the weights have changed, so that no cached position is worth anything. */
  refresh?(): Promise<boolean>;
  /** Copies the keys and values of the first `length` positions out. */
  readCache(length: number): Promise<Uint8Array>;
  /** Puts back what `readCache(length)` gave. */
  writeCache(bytes: Uint8Array, length: number): Promise<void>;
};
