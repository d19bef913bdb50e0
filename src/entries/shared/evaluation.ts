/** The names that both entries of mobilellm/evaluation export. */
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
export type {
  EvaluatedModel,
  EvaluateOptions,
  Evaluation,
  EvaluationProgress,
  Sample,
  SampleRequest,
  TaskResult,
} from "../../evaluation/evaluate.ts";
export { renderReport } from "../../evaluation/report.ts";
export type { ResultStore, StoredResult } from "../../evaluation/result-store.ts";
export { createRow, type Row } from "../../evaluation/row.ts";
export type { Metric } from "../../evaluation/statistics.ts";
export * from "../../evaluation/task.ts";
export { taskGroups, tasks } from "../../evaluation/task-list.ts";
