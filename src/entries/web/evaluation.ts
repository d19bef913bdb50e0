/** mobilellm/evaluation in a browser or any other runtime with web APIs: the paper's benchmarks, as lm-evaluation-harness scores them. */
export * from "../shared/evaluation.ts";
export { evaluate } from "../../evaluation/evaluate.ts";
