/** What a run reports as it goes: one JSON object a line in metrics.jsonl, from which the dashboard and event files are made. */

import type { MemoryReport } from "../../backends/backend.ts";

/** The start of a run, and of each time that it was resumed. */
export type StartRecord = {
  readonly kind: "start";
  /** Steps that were done before. */
  readonly step: number;
  readonly steps: number;
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly name: string;
  readonly parameters: number;
  /** The model's shape, such as `12 layers × 192, 6 heads`. */
  readonly shape: string;
  /** What computes, such as `wasm (relaxed SIMD, 2 threads)`. */
  readonly device: string;
  /** Bytes by class. */
  readonly memory: MemoryReport;
  readonly tokensPerStep: number;
};

/** Means over the steps since the last such record, but for what says otherwise. */
export type StepRecord = {
  readonly kind: "step";
  readonly step: number;
  readonly time: number;
  /** The loss in nats per token, before the update. */
  readonly loss: number;
  /** The learning rate of the last step. */
  readonly learningRate: number;
  /** The global norm of the gradients, before clipping. */
  readonly gradientNorm: number;
  /** Tokens trained on since the run began. */
  readonly tokens: number;
  readonly epoch: number;
  /** The speed of the steps alone, without held-out loss, samples and checkpoints. */
  readonly tokensPerSecond: number;
  readonly flopsPerSecond: number;
  /** The fastest matrix products that were measured on this machine since the start. */
  readonly peakFlopsPerSecond: number;
  /** The share of that peak, 0 to 1. */
  readonly utilisation: number;
  /** Time for training, held-out loss, samples and checkpoints, over all starts. */
  readonly elapsedMs: number;
  readonly remainingMs: number;
};

/** What a model makes of text that it was not trained on. */
export type HeldOutRecord = {
  readonly kind: "heldOut";
  readonly step: number;
  readonly time: number;
  /** The loss in nats per token. */
  readonly loss: number;
  readonly bitsPerByte: number;
  /** How many predicted tokens were counted. */
  readonly tokens: number;
  /** Whether it is lower than every earlier one. */
  readonly isBest: boolean;
};

/** A text that the model continued. */
export type SampleRecord = {
  readonly kind: "sample";
  readonly step: number;
  readonly time: number;
  readonly prompt: string;
  /** The temperature; 0 is greedy. */
  readonly temperature: number;
  /** The continuation. */
  readonly text: string;
};

/** The end of a run, or of one of its starts. */
export type EndRecord = {
  readonly kind: "end";
  readonly step: number;
  readonly time: number;
  readonly reason: "finished" | "interrupted" | "failed";
  /** Why it failed. */
  readonly message?: string;
};

/** A line of metrics.jsonl. */
export type MetricsRecord = StartRecord | StepRecord | HeldOutRecord | SampleRecord | EndRecord;
