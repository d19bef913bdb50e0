/** What a task asks of a model: its items in tokens, and the distinct requests that they come down to. */
import type { Model } from "../inference/model.ts";
import { type EncodedPair, encodePair, prefixToken } from "../inference/score.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { readTaskRows } from "./data.ts";
import type { EvaluateSettings } from "./evaluate.ts";
import { createExampleSampler, noExamples } from "./few-shot.ts";
import {
  type ChoiceItem,
  createItems,
  type GenerateItem,
  type Item,
  type LikelihoodItem,
  type RollingItem,
  type TextPair,
} from "./requests.ts";
import { chunkWindows, rollingWindows } from "./rolling.ts";
import type { Task } from "./task.ts";

/** Everything that is put to the model for one task. */
export type Plan = {
  readonly task: Task;
  readonly questions: readonly Question[];
  /** The distinct ones of all questions. */
  readonly pairs: readonly PairRequest[];
  readonly prompts: readonly PromptRequest[];
};

/** An item with its requests; equal requests of several items are one object. */
export type Question =
  | {
      readonly kind: "choice";
      readonly item: ChoiceItem;
      readonly requests: readonly PairRequest[];
      readonly unconditional: readonly PairRequest[];
    }
  | { readonly kind: "likelihood"; readonly item: LikelihoodItem; readonly request: PairRequest }
  | { readonly kind: "generate"; readonly item: GenerateItem; readonly request: PromptRequest }
  | { readonly kind: "rolling"; readonly item: RollingItem; readonly requests: readonly PairRequest[] };

/** A continuation to score. */
export type PairRequest = {
  readonly pair: EncodedPair;
  /** Tokens that it adds to what has to run. */
  readonly cost: number;
  /** Undefined until it is answered. */
  score: Scored | undefined;
};

/** What the model says of a continuation: its log-likelihood in nats, and whether each token of it is the likeliest. */
export type Scored = { readonly logprob: number; readonly isGreedy: boolean };

/** A text to go on with. */
export type PromptRequest = {
  readonly prompt: readonly number[];
  /** Strings that end the answer. */
  readonly until: readonly string[];
  readonly maxTokens: number;
  /** Tokens, as far as they can be foreseen. */
  readonly cost: number;
  /** Undefined until it is answered. */
  generated: string | undefined;
};

/** The harness's `max_gen_toks`. */
const DEFAULT_MAX_TOKENS = 256;
/** Tokens that an answer is taken to have, before it is there. */
const ANSWER_COST = 16;

/**
 * Reads a task's rows and encodes what they ask.
 * @throws {MissingDataError} if the task's file is not in the data.
 * @throws {RangeError} if the context is too short for the task, or the task takes no examples.
 */
export async function planTask(model: Model, task: Task, settings: EvaluateSettings): Promise<Plan> {
  const { data, fewShot, fewShotSeed, limit, unconditional: withUnconditional, contextLength, signal } = settings;
  const rows = await readTaskRows(data, task, signal);
  const documents = task.prepare?.(rows) ?? rows;
  if (fewShot > 0 && task.kind === "rolling") {
    throw new RangeError(`fewShot: ${task.name} scores whole texts, which take no examples. Leave it out.`);
  }
  const examples = fewShot > 0 ? await createExampleSampler(data, task, documents, fewShotSeed, signal) : noExamples;
  const set = createPairSet();
  const prompts: PromptRequest[] = [];

  function ask(item: Item): Question {
    const encode = (pair: TextPair): PairRequest =>
      set.add(encodePair(`${task.name}: ${item.id}`, model.session, model.tokenizer, pair, contextLength));
    switch (item.kind) {
      case "choice": {
        const requests = item.requests.map(encode);
        return {
          kind: "choice",
          item,
          requests,
          unconditional: withUnconditional ? item.unconditional.map(encode) : [],
        };
      }
      case "likelihood":
        return { kind: "likelihood", item, request: encode(item.request) };
      case "generate": {
        const request = encodePrompt(model, item, contextLength);
        prompts.push(request);
        return { kind: "generate", item, request };
      }
      case "rolling":
        return { kind: "rolling", item, requests: cutWindows(model, item, contextLength).map(set.add) };
    }
  }

  const questions = createItems(task, documents.slice(0, limit), examples, fewShot).map(ask);
  return { task, questions, pairs: set.requests, prompts };
}

function encodePrompt(model: Model, { task, context }: GenerateItem, contextLength: number): PromptRequest {
  const { until, maxTokens = DEFAULT_MAX_TOKENS } = task;
  const room = contextLength - maxTokens;
  if (room < 1) {
    throw new RangeError(
      `contextLength: ${task.name} needs room for an answer of ${maxTokens} tokens. Load the model with a longer one.`,
    );
  }
  const prompt = tokenizerOf(model).encode(context).slice(-room);
  return { prompt, until, maxTokens, cost: prompt.length + ANSWER_COST, generated: undefined };
}

function cutWindows(model: Model, { task, document }: RollingItem, contextLength: number): EncodedPair[] {
  const tokens = tokenizerOf(model).encode(document.text);
  if (task.windows === "chunks") {
    const chunks = chunkWindows(tokens, contextLength);
    if (chunks.length > 0) return chunks;
    throw new RangeError(
      `${task.name}: at least ${contextLength} tokens (one window) were required, got ${tokens.length}. Use a shorter contextLength.`,
    );
  }
  const prefix = prefixToken(model.session, model.tokenizer);
  if (prefix === undefined) {
    throw new RangeError(`${task.name}: the model has no bos or eos token to stand before the text.`);
  }
  return rollingWindows(tokens, prefix, contextLength);
}

/** The model's tokenizer. @throws {TypeError} if it came without one. */
export function tokenizerOf({ name, tokenizer }: Model): Tokenizer {
  if (tokenizer === undefined) throw new TypeError(`evaluate: ${name} came without a tokenizer. Load it with one.`);
  return tokenizer;
}

/** Keeps equal requests once. */
function createPairSet(): {
  readonly requests: readonly PairRequest[];
  add(this: void, pair: EncodedPair): PairRequest;
} {
  const requests: PairRequest[] = [];
  const known = new Map<string, PairRequest>();
  const contexts = new Set<string>();
  return {
    requests,
    add(pair) {
      const context = pair.context.join();
      const key = `${context}|${pair.continuation.join()}`;
      let request = known.get(key);
      if (request === undefined) {
        const cost = pair.continuation.length - 1 + (contexts.has(context) ? 0 : pair.context.length);
        request = { pair, cost, score: undefined };
        known.set(key, request);
        contexts.add(context);
        requests.push(request);
      }
      return request;
    },
  };
}
