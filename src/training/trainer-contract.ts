/** The types of the trainer and the loader that a run is written against. */
import type { Checkpoint } from "../formats/checkpoint.ts";
import type { ModelConfig } from "../model/config.ts";

export type Row = ArrayLike<number> | { readonly tokens: ArrayLike<number>; readonly learn: ArrayLike<number> };
export type StepReport = { readonly loss: number; readonly gradientNorm: number; readonly learningRate: number };
export type Trainer = {
  readonly config: ModelConfig;
  readonly steps: number;
  readonly description: string;
  step(microBatches: readonly (readonly Row[])[], options?: { signal?: AbortSignal | undefined }): Promise<StepReport>;
  evaluate(
    rows: readonly Row[],
    options?: { signal?: AbortSignal | undefined },
  ): Promise<{ loss: number; tokens: number }>;
  checkpoint(): Promise<Checkpoint>;
  save(directory: string, options?: { files?: Readonly<Record<string, string>> }): Promise<void>;
  dispose(): Promise<void>;
};

/** JSON-serialisable and small. */
export type LoaderPosition = unknown;
export type Loader = {
  next(rows: number): Promise<Row[]>;
  readonly position: LoaderPosition;
  readonly epoch: number;
  readonly tokensPerEpoch: number;
  heldOut(maxRows?: number): AsyncIterable<Row[]>;
  readonly heldOutBytesPerToken: number;
};

/** Training can't go on: loss or gradients are not finite. */
export class TrainingError extends Error {
  override readonly name = "TrainingError";
}
