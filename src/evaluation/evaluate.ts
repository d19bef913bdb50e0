/** Tasks put to a model: requests planned, scored, and counted. */
import { refuseUnknownKeys } from "../errors.ts";
import type { Model } from "../inference/model.ts";
import { type EncodedPair, encodePair, prefixToken, scorePairs } from "../inference/score.ts";
import { countParameters } from "../model/config.ts";
import { bestF1, exactMatch } from "./answers.ts";
import { type DataSource, MissingDataError, readTaskRows } from "./data.ts";
import { createExampleSampler, DEFAULT_SEED, noExamples } from "./few-shot.ts";
import { argmax, length, splitSpaces, strip } from "./python.ts";
import { createItems, type Item } from "./requests.ts";
import { generationKey, pairKey, type ResultStore, type StoredResult } from "./result-store.ts";
import { chunkWindows, rollingWindows } from "./rolling.ts";
import { meanOf, type Metric, perplexityOf, sum } from "./statistics.ts";
import type { ChoiceTask, GenerateTask, Task } from "./task.ts";
import { findTasks } from "./task-list.ts";

export type EvaluateOptions = {
  /** Names of tasks and groups, tasks of one's own, and text files of the data (`story.txt`). Default: `common-sense`. */
  readonly tasks?: string | readonly (string | Task)[] | undefined;
  readonly data: DataSource;
  /** Only the first so many documents of each task. */
  readonly limit?: number | undefined;
  /** Solved examples before each question. Default: 0. */
  readonly fewShot?: number | undefined;
  /** Which examples are drawn. Default: the harness's 1234. */
  readonly fewShotSeed?: number | undefined;
  /** Tokens that the model may see at once. Default: what it was loaded with. */
  readonly contextLength?: number | undefined;
  /** Whether choices are also compared by P(choice | "Answer:"), which costs a run of each distinct choice. Default: true. */
  readonly unconditional?: boolean | undefined;
  /** Give each document's requests and scores too. Default: false. */
  readonly samples?: boolean | undefined;
  /** Go on with the other tasks where data is missing. Default: false. */
  readonly skipMissing?: boolean | undefined;
  /** Answers from before; new ones are put there. */
  readonly results?: ResultStore | undefined;
  readonly onProgress?: ((progress: EvaluationProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
};

export const evaluateKeys: readonly (keyof EvaluateOptions)[] = [
  "tasks",
  "data",
  "limit",
  "fewShot",
  "fewShotSeed",
  "contextLength",
  "unconditional",
  "samples",
  "skipMissing",
  "results",
  "onProgress",
  "signal",
];

export type EvaluationProgress = {
  /** The task in work. */
  readonly task: string;
  /** Requests of all tasks. */
  readonly done: number;
  readonly total: number;
  /** By tokens, from 0 to 1. */
  readonly fraction: number;
  /** Undefined until there is something to go by. */
  readonly secondsLeft: number | undefined;
};

export type Evaluation = {
  readonly model: EvaluatedModel;
  /** By name. */
  readonly tasks: Readonly<Record<string, TaskResult>>;
  /** What was left out for want of data, with the reason. */
  readonly missing: Readonly<Record<string, string>>;
};

export type EvaluatedModel = {
  readonly name: string;
  readonly dtype: string;
  readonly description: string;
  readonly contextLength: number;
  readonly parameters: number;
};

export type TaskResult = {
  readonly version: number;
  readonly documents: number;
  readonly fewShot: number;
  readonly metrics: Readonly<Record<string, Metric>>;
  readonly seconds: number;
  readonly samples?: readonly Sample[] | undefined;
};

/** A document, as the harness logs it. */
export type Sample = {
  readonly id: string;
  /** The index of the right choice, the references, or the text. */
  readonly target: number | string | readonly string[];
  /** What enters the task's metrics; for whole texts the log-likelihood and what it is divided by. */
  readonly metrics: Readonly<Record<string, number | readonly [logprob: number, count: number]>>;
  readonly requests: readonly SampleRequest[];
  /** log P(choice | "Answer:") for each choice. */
  readonly unconditional?: readonly number[];
};

export type SampleRequest =
  | { readonly context: string; readonly continuation: string; readonly logprob: number; readonly isGreedy: boolean }
  | { readonly context: string; readonly generated: string };

type Scored = { readonly logprob: number; readonly isGreedy: boolean };

/**
 * Scores a model as EleutherAI's lm-evaluation-harness does, request for request.
 * @throws {MissingDataError} if a task's file is not in the data; before anything is run.
 * @throws {RangeError} for unknown tasks and options out of range.
 */
export async function evaluate(model: Model, options: EvaluateOptions): Promise<Evaluation> {
  refuseUnknownKeys("evaluate", options, evaluateKeys);
  checkOptions(model, options);
  const { signal, onProgress, samples: wantsSamples = false } = options;
  const tasks = findTasks(typeof options.tasks === "string" ? [options.tasks] : (options.tasks ?? ["common-sense"]));
  const missing: Record<string, string> = {};
  const plans: Plan[] = [];
  for (const task of tasks) {
    try {
      plans.push(await planTask(model, task, options));
    } catch (error) {
      if (!(error instanceof MissingDataError && options.skipMissing)) throw error;
      missing[task.name] = error.message;
    }
  }
  const progress = createProgress(plans, onProgress);
  const results: Record<string, TaskResult> = {};
  for (const plan of plans) {
    const startedAt = performance.now();
    await answer(model, plan, options.results, signal, (tokens) => progress.add(plan.task.name, tokens));
    const samples = plan.items.map((item, i) => judge(plan, item, plan.wanted[i]!));
    results[plan.task.name] = {
      version: plan.task.version,
      documents: samples.length,
      fewShot: options.fewShot ?? 0,
      metrics: aggregate(plan, samples),
      seconds: (performance.now() - startedAt) / 1000,
      ...(wantsSamples && { samples }),
    };
  }
  const { name, dtype, description } = model;
  const contextLength = options.contextLength ?? model.contextLength;
  const parameters = countParameters(model.config).total;
  return { model: { name, dtype, description, contextLength, parameters }, tasks: results, missing };
}

function checkOptions(model: Model, options: EvaluateOptions): void {
  const check = (name: "limit" | "fewShot" | "fewShotSeed" | "contextLength", least: number, most: number): void => {
    const value = options[name];
    if (value === undefined || (Number.isSafeInteger(value) && value >= least && value <= most)) return;
    throw new RangeError(`${name}: expected a whole number from ${least} to ${most}, got ${String(value)}.`);
  };
  check("limit", 1, Number.MAX_SAFE_INTEGER);
  check("fewShot", 0, 1000);
  check("fewShotSeed", 0, 0xffffffff);
  check("contextLength", 2, model.contextLength);
  if (model.tokenizer === undefined) {
    throw new TypeError(`evaluate: ${model.name} came without a tokenizer. Load it with one.`);
  }
}

/** What a task asks: distinct requests, and which of them belong to which document. */
type Plan = {
  readonly task: Task;
  readonly items: readonly Item[];
  readonly wanted: readonly Wanted[];
  readonly pairs: readonly EncodedPair[];
  readonly prompts: readonly (readonly number[])[];
  readonly contextLength: number;
  /** Tokens that each pair adds to what has to run. */
  readonly costs: readonly number[];
  /** Filled by `answer`. */
  readonly scores: Scored[];
  readonly generated: string[];
};

/** Indices into the plan's pairs, or prompts. */
type Wanted = { readonly requests: readonly number[]; readonly unconditional: readonly number[] };

async function planTask(model: Model, task: Task, options: EvaluateOptions): Promise<Plan> {
  const { data, fewShot = 0, fewShotSeed = DEFAULT_SEED, limit, signal } = options;
  const contextLength = options.contextLength ?? model.contextLength;
  const rows = await readTaskRows(data, task, signal);
  const documents = task.prepare?.(rows) ?? rows;
  if (fewShot > 0 && task.kind === "rolling") {
    throw new RangeError(`fewShot: ${task.name} scores whole texts, which take no examples. Leave it out.`);
  }
  const examples = fewShot > 0 ? await createExampleSampler(data, task, documents, fewShotSeed, signal) : noExamples;
  const items = createItems(task, documents.slice(0, limit), examples, fewShot);
  const set = createPairSet();
  const prompts: number[][] = [];
  const encode = (where: string, pair: { context: string; continuation: string }): number =>
    set.add(encodePair(where, model.session, model.tokenizer, pair, contextLength));
  const withUnconditional = options.unconditional ?? true;
  const wanted = items.map((item): Wanted => {
    const where = `${task.name}: ${item.id}`;
    switch (item.kind) {
      case "choice":
        return {
          requests: item.requests.map((pair) => encode(where, pair)),
          unconditional: withUnconditional ? item.unconditional.map((pair) => encode(where, pair)) : [],
        };
      case "likelihood":
        return { requests: [encode(where, item.request)], unconditional: [] };
      case "generate": {
        const { maxTokens = DEFAULT_MAX_TOKENS } = task as GenerateTask;
        prompts.push(encodePrompt(model, task.name, item.context, contextLength - maxTokens));
        return { requests: [prompts.length - 1], unconditional: [] };
      }
      case "rolling":
        return { requests: cutWindows(model, task, item.document.text, contextLength).map(set.add), unconditional: [] };
    }
  });
  return { task, items, wanted, pairs: set.pairs, costs: set.costs, prompts, contextLength, scores: [], generated: [] };
}

/** The harness's `max_gen_toks`. */
const DEFAULT_MAX_TOKENS = 256;

function encodePrompt(model: Model, name: string, context: string, room: number): number[] {
  if (room < 1) {
    throw new RangeError(
      `contextLength: ${name} needs room for an answer of ${DEFAULT_MAX_TOKENS} tokens. Load the model with a longer one.`,
    );
  }
  return model.tokenizer!.encode(context).slice(-room);
}

function cutWindows(model: Model, task: Task, text: string, contextLength: number): EncodedPair[] {
  const tokens = model.tokenizer!.encode(text);
  if (task.kind === "rolling" && task.windows === "chunks") {
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

/** Equal requests once. */
function createPairSet(): { pairs: EncodedPair[]; costs: number[]; add: (pair: EncodedPair) => number } {
  const pairs: EncodedPair[] = [];
  const costs: number[] = [];
  const known = new Map<string, number>();
  const contexts = new Set<string>();
  return {
    pairs,
    costs,
    add(pair) {
      const context = pair.context.join();
      const key = `${context}|${pair.continuation.join()}`;
      const at = known.get(key);
      if (at !== undefined) return at;
      known.set(key, pairs.length);
      costs.push(pair.continuation.length - 1 + (contexts.has(context) ? 0 : pair.context.length));
      contexts.add(context);
      return pairs.push(pair) - 1;
    },
  };
}

async function answer(
  model: Model,
  plan: Plan,
  results: ResultStore | undefined,
  signal: AbortSignal | undefined,
  onDone: (tokens: number) => void,
): Promise<void> {
  const open: number[] = [];
  const keys = results ? plan.pairs.map(pairKey) : [];
  for (const index of plan.pairs.keys()) {
    const stored = results?.get(keys[index]!);
    if (!stored || !("logprob" in stored)) open.push(index);
    else {
      plan.scores[index] = stored;
      onDone(plan.costs[index]!);
    }
  }
  const pairs = open.map((index) => plan.pairs[index]!);
  for await (const { index, score } of scorePairs(model.session, pairs, signal)) {
    const at = open[index]!;
    const { logprob, isGreedy } = score;
    plan.scores[at] = { logprob, isGreedy };
    results?.set(keys[at]!, { logprob, isGreedy });
    onDone(plan.costs[at]!);
  }
  for (const [index, prompt] of plan.prompts.entries()) {
    plan.generated[index] = await write(model, plan.task as GenerateTask, prompt, results, signal);
    onDone(promptCost(prompt));
  }
}

const promptCost = (prompt: readonly number[]): number => prompt.length + 16;

async function write(
  model: Model,
  task: GenerateTask,
  prompt: readonly number[],
  results: ResultStore | undefined,
  signal: AbortSignal | undefined,
): Promise<string> {
  const { until, maxTokens = DEFAULT_MAX_TOKENS } = task;
  const key = generationKey(prompt, until, maxTokens);
  const stored: StoredResult | undefined = results?.get(key);
  if (stored && "generated" in stored) return stored.generated;
  const { tokens } = await model.generate(prompt, { temperature: 0, maxTokens, stop: until, signal }).result;
  const text = model.tokenizer!.decode(tokens, { skipSpecial: true });
  const end = until.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
  const generated = strip(text.slice(0, Math.min(text.length, ...end)));
  results?.set(key, { generated });
  return generated;
}

function judge(plan: Plan, item: Item, { requests, unconditional }: Wanted): Sample {
  const { task } = plan;
  const scores = requests.map((index) => plan.scores[index]!);
  const { id } = item;
  switch (item.kind) {
    case "choice": {
      const alone = unconditional.map((index) => plan.scores[index]!.logprob);
      const { document } = item;
      return {
        id,
        target: document.target ?? document.gold,
        metrics: judgeChoice(
          task as ChoiceTask,
          document.choices,
          document.gold,
          scores.map(({ logprob }) => logprob),
          alone,
        ),
        requests: item.requests.map((pair, i) => ({ ...pair, ...scores[i]! })),
        ...(alone.length > 0 && { unconditional: alone }),
      };
    }
    case "likelihood": {
      const { logprob, isGreedy } = scores[0]!;
      return {
        id,
        target: item.document.continuation,
        metrics: { perplexity: logprob, acc: Number(isGreedy) },
        requests: [{ ...item.request, logprob, isGreedy }],
      };
    }
    case "generate": {
      const { references } = item.document;
      const generated = plan.generated[requests[0]!]!;
      return {
        id,
        target: references,
        metrics: {
          exact_match: Number(exactMatch(generated, references, (task as GenerateTask).ignore)),
          f1: bestF1(generated, references),
        },
        requests: [{ context: item.context, generated }],
      };
    }
    case "rolling": {
      const { text, original = text } = item.document;
      const logprob = sum(scores.map((score) => score.logprob));
      const bytes = new TextEncoder().encode(original).length;
      const isChunked = task.kind === "rolling" && task.windows === "chunks";
      return {
        id,
        target: text,
        metrics: isChunked
          ? { token_perplexity: [logprob, scores.length * (plan.contextLength - 1)] }
          : {
              word_perplexity: [logprob, splitSpaces(original).length],
              byte_perplexity: [logprob, bytes],
              bits_per_byte: [logprob, bytes],
            },
        requests: [{ context: "", continuation: text, logprob, isGreedy: scores.every((score) => score.isGreedy) }],
      };
    }
  }
}

/** acc: by log-likelihood; acc_norm: per character; acc_uncond: over that after "Answer:"; and the paper's choice of them. */
function judgeChoice(
  task: ChoiceTask,
  choices: readonly string[],
  gold: number,
  logprobs: readonly number[],
  alone: readonly number[],
): Sample["metrics"] {
  const isRight = (values: readonly number[]): number => Number(argmax(values) === gold);
  const characters = isRight(logprobs.map((logprob, i) => logprob / length(choices[i]!)));
  const scores = { acc: isRight(logprobs), acc_norm: characters };
  if (task.paperRule !== "unconditional") {
    const uncond = alone.length > 0 ? { acc_uncond: isRight(logprobs.map((logprob, i) => logprob - alone[i]!)) } : {};
    return { ...scores, ...uncond, mobilellm_score: characters };
  }
  if (alone.length === 0) return scores;
  const uncond = isRight(logprobs.map((logprob, i) => logprob - alone[i]!));
  return { ...scores, acc_uncond: uncond, mobilellm_score: uncond };
}

function aggregate(plan: Plan, samples: readonly Sample[]): Record<string, Metric> {
  const names = Object.keys(samples[0]?.metrics ?? {});
  return Object.fromEntries(
    names.map((name): [string, Metric] => {
      const values = samples.map((sample) => sample.metrics[name]!);
      if (plan.task.kind === "rolling") return [name, { value: ofText(name, values as [number, number][]) }];
      if (plan.task.kind === "likelihood" && name === "perplexity") return [name, perplexityOf(values as number[])];
      return [name, meanOf(values as number[])];
    }),
  );
}

function ofText(name: string, values: readonly (readonly [number, number])[]): number {
  const nats = -sum(values.map(([logprob]) => logprob)) / sum(values.map(([, count]) => count));
  return name === "bits_per_byte" ? nats / Math.LN2 : Math.exp(nats);
}

function createProgress(
  plans: readonly Plan[],
  onProgress: EvaluateOptions["onProgress"],
): { add: (task: string, tokens: number) => void } {
  const total = sum(plans.map(({ pairs, prompts }) => pairs.length + prompts.length));
  const allTokens = sum(plans.map(({ costs, prompts }) => sum(costs) + sum(prompts.map(promptCost))));
  const startedAt = performance.now();
  let done = 0;
  let tokens = 0;
  return {
    add(task, more) {
      done++;
      tokens += more;
      const fraction = tokens / allTokens;
      const elapsed = (performance.now() - startedAt) / 1000;
      const secondsLeft = elapsed < 1 ? undefined : (elapsed / fraction) * (1 - fraction);
      onProgress?.({ task, done, total, fraction, secondsLeft });
    },
  };
}
