/**
 * TriviaQA (Joshi et al. 2017, arXiv:1705.03551) and NQ-open (Lee et al. 2019, arXiv:1906.00300): questions answered from
 * what the model knows. Both prompts end in a question mark more than the question has, as the harness's do.
 */
import { defineTask, type GenerateTask } from "../task.ts";

const until = ["\n", ".", ","];

const triviaqaDataset = "mandarjoshi/trivia_qa";
const nqDataset = "google-research-datasets/nq_open";

/** Trivia; any alias of the answer is right. */
export const triviaqa: GenerateTask = defineTask({
  name: "triviaqa",
  version: 3,
  kind: "generate",
  data: { names: ["triviaqa"], hub: { dataset: triviaqaDataset, config: "rc.nocontext", split: "validation" } },
  examples: [{ names: ["triviaqa_train"], hub: { dataset: triviaqaDataset, config: "rc.nocontext", split: "train" } }],
  drawsOneMore: true,
  until,
  document: (row) => ({
    context: `Question: ${row.text("question")}?\nAnswer:`,
    references: row.has("aliases") ? row.texts("aliases") : row.row("answer").texts("aliases"),
  }),
});

/** Questions that people asked Google. */
export const nqOpen: GenerateTask = defineTask({
  name: "nq_open",
  version: 4,
  kind: "generate",
  data: { names: ["nq_open"], hub: { dataset: nqDataset, config: "nq_open", split: "validation" } },
  examples: [{ names: ["nq_open_train"], hub: { dataset: nqDataset, config: "nq_open", split: "train" } }],
  drawsOneMore: true,
  description: "Answer these questions:\n\n",
  exampleDelimiter: "\n",
  until,
  ignore: /\b(?:The |the |An |A |The |a |an )/g,
  document: (row) => ({
    context: `Q: ${row.text("question")}?\nA:`,
    references: row.texts("answer", "answers"),
  }),
});
