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
} from "../../evaluation/api-calling.ts";
export { type DataSource, memoryData, MissingDataError, parseRows } from "../../evaluation/data.ts";
export {
  evaluate,
  type EvaluatedModel,
  type EvaluateOptions,
  type Evaluation,
  type EvaluationProgress,
  type Sample,
  type SampleRequest,
  type TaskResult,
} from "../../evaluation/evaluate.ts";
export { renderReport } from "../../evaluation/report.ts";
export type { ResultStore, StoredResult } from "../../evaluation/result-store.ts";
export { createRow, type Row } from "../../evaluation/row.ts";
export type { Metric } from "../../evaluation/statistics.ts";
export * from "../../evaluation/task.ts";
export { taskGroups, tasks } from "../../evaluation/task-list.ts";
