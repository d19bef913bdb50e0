/** Tasks put to a model: planned (plan.ts), answered, and counted (judge.ts). */
import type { Model } from "../inference/model.ts";
import { scorePairs } from "../inference/score.ts";
import { countParameters } from "../model/config.ts";
import * as o from "../options.ts";
import { type DataSource, MissingDataError } from "./data.ts";
import { DEFAULT_SEED } from "./few-shot.ts";
import { aggregate, judge, type Sample } from "./judge.ts";
import { type PairRequest, type Plan, planTask, type PromptRequest, tokenizerOf } from "./plan.ts";
import { strip } from "./python.ts";
import { generationKey, pairKey, type ResultStore, type StoredResult } from "./result-store.ts";
import { type Metric, sum } from "./statistics.ts";
import type { Task } from "./task.ts";
import { findTasks } from "./task-list.ts";

export type { Sample, SampleRequest } from "./judge.ts";

/** What is asked of a model, and how. */
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

/** Options of an evaluation with defaults filled in. */
export type EvaluateSettings = Omit<EvaluateOptions, "tasks" | FilledKey> &
  o.Filled<Pick<EvaluateOptions, FilledKey>> & { readonly tasks: readonly (string | Task)[] };
type FilledKey = "fewShot" | "fewShotSeed" | "contextLength" | "unconditional" | "samples" | "skipMissing";

function evaluateSchema(mostContext: number): o.Schema<EvaluateOptions, EvaluateSettings> {
  return o.object<EvaluateOptions, EvaluateSettings>({
    tasks: o.withDefault(o.oneOrMore(o.anything as o.Schema<string | Task>), "common-sense"),
    data: o.instance("a source of data"),
    limit: o.optional(o.count),
    fewShot: o.withDefault(o.number({ isWhole: true, min: 0, max: 1000 }), 0),
    fewShotSeed: o.withDefault(o.number({ isWhole: true, min: 0, max: 0xffffffff }), DEFAULT_SEED),
    contextLength: o.withDefault(o.number({ isWhole: true, min: 2, max: mostContext }), mostContext),
    unconditional: o.withDefault(o.flag, true),
    samples: o.withDefault(o.flag, false),
    skipMissing: o.withDefault(o.flag, false),
    results: o.optional(o.instance("a store of results")),
    onProgress: o.optional(o.callback()),
    signal: o.optional(o.signal),
  });
}

/** How far an evaluation is. */
export type EvaluationProgress = {
  /** The task in work. */
  readonly task: string;
  /** Requests of all tasks that are answered. */
  readonly done: number;
  readonly total: number;
  /** The share of the tokens that have run, from 0 to 1. */
  readonly fraction: number;
  /** Undefined until there is something to go by. */
  readonly secondsLeft: number | undefined;
};

/** A model and its scores. */
export type Evaluation = {
  readonly model: EvaluatedModel;
  /** The results by the tasks' names. */
  readonly tasks: Readonly<Record<string, TaskResult>>;
  /** What was left out for want of data, with the reason. */
  readonly missing: Readonly<Record<string, string>>;
};

/** What was evaluated. */
export type EvaluatedModel = {
  readonly name: string;
  readonly dtype: string;
  readonly description: string;
  readonly contextLength: number;
  readonly parameters: number;
};

/** What came of one task. */
export type TaskResult = {
  readonly version: number;
  readonly documents: number;
  readonly fewShot: number;
  readonly metrics: Readonly<Record<string, Metric>>;
  readonly seconds: number;
  readonly samples?: readonly Sample[] | undefined;
};

/**
 * Scores a model as EleutherAI's lm-evaluation-harness does, request for request.
 * @throws {MissingDataError} if a task's file is not in the data; before anything is run.
 * @throws {RangeError} for unknown tasks and options out of range.
 */
export async function evaluate(model: Model, options: EvaluateOptions): Promise<Evaluation> {
  const settings = o.check("evaluate", evaluateSchema(model.contextLength), options);
  tokenizerOf(model);
  const { signal, onProgress, samples: wantsSamples } = settings;
  const tasks = findTasks(settings.tasks);
  const missing: Record<string, string> = {};
  const plans: Plan[] = [];
  for (const task of tasks) {
    try {
      plans.push(await planTask(model, task, settings));
    } catch (error) {
      if (!(error instanceof MissingDataError && settings.skipMissing)) throw error;
      missing[task.name] = error.message;
    }
  }
  const progress = createProgress(plans, onProgress);
  const results: Record<string, TaskResult> = {};
  for (const plan of plans) {
    const startedAt = performance.now();
    await answer(model, plan, settings.results, signal, ({ cost }) => progress.add(plan.task.name, cost));
    const samples = plan.questions.map(judge);
    results[plan.task.name] = {
      version: plan.task.version,
      documents: samples.length,
      fewShot: settings.fewShot,
      metrics: aggregate(plan.task, samples),
      seconds: (performance.now() - startedAt) / 1000,
      ...(wantsSamples && { samples }),
    };
  }
  const { name, dtype, description } = model;
  const { contextLength } = settings;
  const parameters = countParameters(model.config).total;
  return { model: { name, dtype, description, contextLength, parameters }, tasks: results, missing };
}

/** Puts a plan's requests to the model, but for those whose answers are stored. */
async function answer(
  model: Model,
  { pairs, prompts }: Plan,
  results: ResultStore | undefined,
  signal: AbortSignal | undefined,
  onDone: (request: { readonly cost: number }) => void,
): Promise<void> {
  const open: { readonly request: PairRequest; readonly key: string | undefined }[] = [];
  for (const request of pairs) {
    const key = results && pairKey(request.pair);
    const stored = key === undefined ? undefined : results?.get(key);
    if (stored && "logprob" in stored) {
      request.score = stored;
      onDone(request);
    } else open.push({ request, key });
  }
  const asked = open.map(({ request }) => request.pair);
  for await (const { index, score } of scorePairs(model.session, asked, signal)) {
    const { request, key } = open[index]!;
    const { logprob, isGreedy } = score;
    request.score = { logprob, isGreedy };
    if (key !== undefined) results?.set(key, request.score);
    onDone(request);
  }
  for (const request of prompts) {
    request.generated = await write(model, request, results, signal);
    onDone(request);
  }
}

async function write(
  model: Model,
  { prompt, until, maxTokens }: PromptRequest,
  results: ResultStore | undefined,
  signal: AbortSignal | undefined,
): Promise<string> {
  const key = generationKey(prompt, until, maxTokens);
  const stored: StoredResult | undefined = results?.get(key);
  if (stored && "generated" in stored) return stored.generated;
  const { tokens } = await model.generate(prompt, { temperature: 0, maxTokens, stop: until, signal }).result;
  const text = tokenizerOf(model).decode(tokens, { skipSpecial: true });
  const end = until.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
  const generated = strip(text.slice(0, Math.min(text.length, ...end)));
  results?.set(key, { generated });
  return generated;
}

function createProgress(
  plans: readonly Plan[],
  onProgress: EvaluateOptions["onProgress"],
): { add: (task: string, tokens: number) => void } {
  const costs = plans.flatMap(({ pairs, prompts }) => [...pairs, ...prompts]).map(({ cost }) => cost);
  const allTokens = sum(costs);
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
      onProgress?.({ task, done, total: costs.length, fraction, secondsLeft });
    },
  };
}
