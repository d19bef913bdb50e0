/** mobilellm/evaluation in Node: index.ts and, besides, data in folders. */
import type { Model } from "../inference/model.ts";
import type { DataSource } from "./data.ts";
import { evaluate as evaluateWith, type EvaluateOptions, type Evaluation } from "./evaluate.ts";
import { folderData } from "./node-data.ts";

export * from "./index.ts";

export type NodeEvaluateOptions = Omit<EvaluateOptions, "data"> & {
  /** A folder of data files. */
  readonly data: string | DataSource;
};

/**
 * Scores a model as EleutherAI's lm-evaluation-harness does, request for request.
 * @example const { tasks } = await evaluate(model, { tasks: ["arc_easy", "piqa"], data: "eval-data", limit: 100 });
 */
export function evaluate(model: Model, options: NodeEvaluateOptions): Promise<Evaluation> {
  const { data } = options;
  return evaluateWith(model, { ...options, data: typeof data === "string" ? folderData(data) : data });
}
