/** A loaded model as its user sees it (DESIGN, "Public face"). */
import type { MemoryReport } from "../backends/backend.ts";
import type { ModelConfig } from "../model/config.ts";
import type { LoadedModel } from "../model/load.ts";
import type { Dtype } from "../tensor/dtype.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { createDeviceRunner } from "./device-runner.ts";
import { createModelWeights, type ModelWeights } from "./model-weights.ts";
import { generate, type GenerateOptions, type Generation } from "./generate.ts";
import {
  logits,
  perplexity,
  type Perplexity,
  type PerplexityOptions,
  type ProgressOptions,
  score,
  type Score,
  type ScoreRequest,
} from "./score.ts";
import { createSession, type Session } from "./session.ts";

export type Model = {
  /** The folder's or file's name. */
  readonly name: string;
  readonly config: ModelConfig;
  /** Undefined for a checkpoint without one: then prompts are token ids. */
  readonly tokenizer: Tokenizer | undefined;
  /** How matrices are kept; a file may mix several, then that of the feed-forward. */
  readonly dtype: Dtype;
  /** Which build and how many threads: `wasm (relaxed SIMD, 2 threads)`. */
  readonly description: string;
  /** Positions of the key/value cache. */
  readonly contextLength: number;
  /** Bytes by class, as planned before they were taken. */
  readonly memory: MemoryReport;
  /** The cache: `session.save()` and `session.restore(bytes)`. */
  readonly session: Session;
  /** What a trainer reads and writes; needs dtype `f32`. */
  readonly weights: ModelWeights;
  /** Streams the continuation of a text or of token ids, one piece a token. */
  generate(prompt: string | ArrayLike<number>, options?: GenerateOptions): Generation;
  /** The logits after every token: (T, V), row by row. */
  logits(tokens: ArrayLike<number>, options?: { readonly signal?: AbortSignal }): Promise<Float32Array>;
  /** Log-probabilities of continuations, as lm-evaluation-harness defines them. */
  score(requests: readonly ScoreRequest[], options?: ProgressOptions): Promise<Score[]>;
  /** Of token ids, window by window. */
  perplexity(tokens: ArrayLike<number>, options: PerplexityOptions): Promise<Perplexity>;
  /** Frees threads and memory; the model cannot be used afterwards. */
  dispose(): Promise<void>;
};

export function createModel(name: string, loaded: LoadedModel, tokenizer: Tokenizer | undefined): Model {
  const { config, dtype, machine, recorded } = loaded;
  const { kind, repeats, cache } = config.sharing;
  const weights = createModelWeights(loaded);
  const session = createSession(createDeviceRunner(loaded, weights), {
    fingerprint: [name, dtype, kind, repeats, cache, config.dim, config.layers, config.vocabSize].join("/"),
    bosToken: config.bosToken,
    eosTokens: config.eosTokens,
  });
  return {
    name,
    config,
    tokenizer,
    dtype,
    description: machine.description,
    contextLength: recorded.program.limits.positions,
    memory: machine.memory,
    session,
    weights,
    generate: (prompt, options) => generate(session, tokenizer, prompt, options),
    logits: (tokens, options) => logits(session, tokens, options?.signal),
    score: (requests, options) => score(session, tokenizer, requests, options),
    perplexity: (tokens, options) => perplexity(session, tokens, options),
    dispose: () => machine.dispose(),
  };
}
