/** A loaded model as its user sees it (DESIGN, "Public face"). */
import type { MemoryReport } from "../backends/backend.ts";
import type { ModelConfig } from "../model/config.ts";
import type { LoadedModel } from "../model/load.ts";
import type { Dtype } from "../tensor/dtype.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { createDeviceRunner } from "./device-runner.ts";
import { generate, type GenerateOptions, type Generation } from "./generate.ts";
import { type BatchGeneration, generateBatch } from "./generate-batch.ts";
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
import type { HiddenStates } from "./hidden-states.ts";
import { type InferencePrograms, prepareInference } from "./programs.ts";
import { createSession, type Session } from "./session.ts";
import { toTokens } from "./tokens.ts";

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
  generate: {
    /** Streams the continuation of a text or of token ids, one piece a token. */
    (prompt: string | ArrayLike<number>, options?: GenerateOptions): Generation;
    /** Writes several texts side by side, a token of each in one replay; each comes out as it would alone. */
    (prompts: readonly (string | readonly number[])[], options?: GenerateOptions): BatchGeneration;
  };
  /** The logits after every token: (T, V), row by row. */
  logits(tokens: ArrayLike<number>, options?: { readonly signal?: AbortSignal }): Promise<Float32Array>;
  /**
   * What the head reads of each token: (T, dim), row by row, transformers' last hidden state. A text's mean over them is a vector to compare it
   * by. @throws {RangeError} for no tokens, or more than the context holds.
   */
  hiddenStates(input: string | ArrayLike<number>, options?: { readonly signal?: AbortSignal }): Promise<Float32Array>;
  /** Log-probabilities of continuations, as lm-evaluation-harness defines them. */
  score(requests: readonly ScoreRequest[], options?: ProgressOptions): Promise<Score[]>;
  /** Measures the perplexity of token ids, window by window. */
  perplexity(tokens: ArrayLike<number>, options: PerplexityOptions): Promise<Perplexity>;
  /** Frees what the model has to itself: threads and memory, but for weights that a trainer lent it. It cannot be used afterwards. */
  dispose(): Promise<void>;
};

const loadedModels = new WeakMap<Model, LoadedModel>();

/** The weights that a model stands on, for those who train it; undefined for what is no model. */
export function loadedModelOf(model: object): LoadedModel | undefined {
  return loadedModels.get(model as Model);
}

export type ModelParts = {
  readonly name: string;
  readonly loaded: LoadedModel;
  readonly programs: InferencePrograms;
  readonly tokenizer: Tokenizer | undefined;
  readonly dispose: () => Promise<void>;
};

/** A model over weights that lie on a device, with a cache of its own. */
export function createModel({ name, loaded, programs, tokenizer, dispose }: ModelParts): Model {
  const { config, dtype, machine, contextLength } = loaded;
  const { kind, repeats, cache } = config.sharing;
  const session = createSession(createDeviceRunner(loaded, programs), {
    fingerprint: [name, dtype, kind, repeats, cache, config.dim, config.layers, config.vocabSize].join("/"),
    bosToken: config.bosToken,
    eosTokens: config.eosTokens,
  });
  const model: Model = {
    name,
    config,
    tokenizer,
    dtype,
    description: machine.description,
    contextLength,
    get memory() {
      return machine.memory;
    },
    session,
    generate: createGenerate(session, tokenizer),
    logits: (tokens, options) => logits(session, tokens, options?.signal),
    hiddenStates: createHiddenStatesOf(loaded, programs.hidden, tokenizer),
    score: (requests, options) => score(session, tokenizer, requests, options),
    perplexity: (tokens, options) => perplexity(session, tokens, options),
    dispose,
  };
  loadedModels.set(model, loaded);
  return model;
}

function createHiddenStatesOf(
  { config, contextLength }: LoadedModel,
  hidden: HiddenStates,
  tokenizer: Tokenizer | undefined,
): Model["hiddenStates"] {
  return async (input, { signal } = {}) => {
    const tokens = toTokens("hiddenStates", input, tokenizer, config.vocabSize);
    if (tokens.length < 1 || tokens.length > contextLength) {
      throw new RangeError(`hiddenStates: expected 1 to ${contextLength} tokens (the context), got ${tokens.length}.`);
    }
    return hidden.run(tokens, signal);
  };
}

/** `generate` for one prompt or several. */
export function createGenerate(session: Session, tokenizer: Tokenizer | undefined): Model["generate"] {
  type Prompt = string | ArrayLike<number>;
  function start(prompt: Prompt, options?: GenerateOptions): Generation;
  function start(prompts: readonly (string | readonly number[])[], options?: GenerateOptions): BatchGeneration;
  function start(prompt: Prompt | readonly Prompt[], options?: GenerateOptions): Generation | BatchGeneration {
    const isOne = typeof prompt === "string" || prompt.length === 0 || typeof prompt[0] === "number";
    if (isOne) return generate(session, tokenizer, prompt as Prompt, options);
    return generateBatch(session, tokenizer, prompt as readonly Prompt[], options);
  }
  return start;
}

/** A further model over the same weights, which sees them as they are when it runs: for samples while they are trained. */
export async function openOver(loaded: LoadedModel, name: string, tokenizer: Tokenizer | undefined): Promise<Model> {
  const programs = await prepareInference(loaded, loaded.contextLength);
  return createModel({ name, loaded, programs, tokenizer, dispose: programs.release });
}
