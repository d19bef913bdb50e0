/** mobilellm/evaluation: the paper's benchmarks, as lm-evaluation-harness scores them. Browser-safe; Node adds folders. */
export {
  type ApiCall,
  type ApiEvaluation,
  type ApiOptions,
  compareCalls,
  type DialogueTurn,
  evaluateApiCalls,
  parseApiCall,
  readDialogue,
  rouge,
} from "./api-calling.ts";
export { type DataSource, memoryData, MissingDataError, parseRows } from "./data.ts";
export {
  evaluate,
  type EvaluatedModel,
  type EvaluateOptions,
  type Evaluation,
  type EvaluationProgress,
  type Sample,
  type SampleRequest,
  type TaskResult,
} from "./evaluate.ts";
export { renderReport } from "./report.ts";
export type { ResultStore, StoredResult } from "./result-store.ts";
export { createRow, type Row } from "./row.ts";
export type { Metric } from "./statistics.ts";
export * from "./task.ts";
export { taskGroups, tasks } from "./task-list.ts";
