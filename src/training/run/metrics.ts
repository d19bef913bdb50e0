/** What a run reports as it goes: one JSON object a line in metrics.jsonl, from which the dashboard and event files are made. */

import type { MemoryReport } from "../../backends/backend.ts";

/** The start of a run, and of each time that it was resumed. */
export type StartRecord = {
  readonly kind: "start";
  /** Steps done before. */
  readonly step: number;
  readonly steps: number;
  /** Milliseconds since 1970. */
  readonly time: number;
  readonly name: string;
  readonly parameters: number;
  /** `12 layers × 192, 6 heads`. */
  readonly shape: string;
  /** `wasm (relaxed SIMD, 2 threads)`. */
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
  /** Nats per token, before the update. */
  readonly loss: number;
  /** Of the last step. */
  readonly learningRate: number;
  /** Before clipping. */
  readonly gradientNorm: number;
  /** Since the run began. */
  readonly tokens: number;
  readonly epoch: number;
  /** Held-out loss, samples and checkpoints not counted in. */
  readonly tokensPerSecond: number;
  readonly flopsPerSecond: number;
  /** The fastest matrix products that were measured on this machine since the start. */
  readonly peakFlopsPerSecond: number;
  /** Of that peak, 0 to 1. */
  readonly utilisation: number;
  /** Of training, held-out loss, samples and checkpoints, over all starts. */
  readonly elapsedMs: number;
  readonly remainingMs: number;
};

export type HeldOutRecord = {
  readonly kind: "heldOut";
  readonly step: number;
  readonly time: number;
  /** Nats per token. */
  readonly loss: number;
  readonly bitsPerByte: number;
  /** Counted positions. */
  readonly tokens: number;
  /** No earlier one was lower. */
  readonly isBest: boolean;
};

export type SampleRecord = {
  readonly kind: "sample";
  readonly step: number;
  readonly time: number;
  readonly prompt: string;
  /** 0: greedy. */
  readonly temperature: number;
  /** The continuation. */
  readonly text: string;
};

export type EndRecord = {
  readonly kind: "end";
  readonly step: number;
  readonly time: number;
  readonly reason: "finished" | "interrupted" | "failed";
  /** Why it failed. */
  readonly message?: string;
};

export type MetricsRecord = StartRecord | StepRecord | HeldOutRecord | SampleRecord | EndRecord;
