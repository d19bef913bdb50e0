/** mobilellm/evaluation in Node: what the web entry has and, besides, data in folders and on the Hub, and answers kept in a file. */
import type { HubOptions } from "../../formats/node-hub.ts";
import type { Model } from "../../inference/model.ts";
import type { DataSource } from "../../evaluation/data.ts";
import { evaluate as evaluateWith, type EvaluateOptions, type Evaluation } from "../../evaluation/evaluate.ts";
import { folderData, hubData } from "../../evaluation/node-data.ts";
import { openResultStore } from "../../evaluation/node-result-store.ts";

export * from "../shared/evaluation.ts";
export { loadTask } from "../../evaluation/node-task.ts";

export type NodeEvaluateOptions = Omit<EvaluateOptions, "data" | "results"> & {
  /** A folder of data files. Default: the Hugging Face data sets, downloaded into the Hub's cache. */
  readonly data?: string | DataSource | undefined;
  /** How to reach the Hub: token, endpoint, cacheDir, offline, onProgress. */
  readonly hub?: HubOptions | undefined;
  /** A file of answers: made if it isn't there, read and added to if it is. So a run that was stopped goes on. */
  readonly resume?: string | undefined;
};

/**
 * Scores a model as EleutherAI's lm-evaluation-harness does, request for request.
 * @example const { tasks } = await evaluate(model, { tasks: ["arc_easy", "piqa"], data: "eval-data", limit: 100 });
 */
export async function evaluate(model: Model, options: NodeEvaluateOptions = {}): Promise<Evaluation> {
  const { data: from, hub, resume, ...rest } = options;
  const data = typeof from === "string" ? folderData(from) : (from ?? hubData({ signal: options.signal, ...hub }));
  const results = resume === undefined ? undefined : await openResultStore(resume, model);
  try {
    return await evaluateWith(model, { ...rest, data, results });
  } finally {
    results?.close();
  }
}
