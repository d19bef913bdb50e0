/** BoolQ (Clark et al. 2019, arXiv:1905.10044): yes or no about a passage. */
import { type ChoiceTask, defineTask } from "../task.ts";
import { inRange } from "./choices.ts";

const dataset = "aps/super_glue";

export const boolq: ChoiceTask = defineTask({
  name: "boolq",
  version: 2,
  kind: "choice",
  data: { names: ["boolq"], hub: { dataset, config: "boolq", split: "validation" } },
  examples: [{ names: ["boolq_train"], hub: { dataset, config: "boolq", split: "train" } }],
  drawsOneMore: true,
  paperRule: "unconditional",
  document: (row) => ({
    context: `${row.text("passage", "context")}\nQuestion: ${row.text("question")}?\nAnswer:`,
    // The original file, unlike SuperGLUE's, has `answer: true`.
    ...inRange(row, {
      choices: ["no", "yes"],
      gold: row.has("gold", "label") ? row.integer("gold", "label") : Number(row.fields["answer"] === true),
    }),
  }),
});
