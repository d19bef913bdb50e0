/** Social IQa (Sap et al. 2019, arXiv:1904.09728): why people do things, and what follows. */
import { type ChoiceTask, defineTask } from "../task.ts";
import { inRange } from "./choices.ts";

const dataset = "lighteval/siqa";

export const socialIqa: ChoiceTask = defineTask({
  name: "social_iqa",
  version: 0,
  kind: "choice",
  data: { names: ["siqa", "social_iqa"], hub: { dataset, config: "default", split: "validation" } },
  examples: [{ names: ["siqa_train", "social_iqa_train"], hub: { dataset, config: "default", split: "train" } }],
  drawsOneMore: true,
  document: (row) => ({
    context: `Q: ${row.text("context")} ${row.text("question")}\nA:`,
    ...inRange(row, {
      choices: row.has("choices")
        ? row.texts("choices")
        : [row.text("answerA"), row.text("answerB"), row.text("answerC")],
      gold: row.has("gold") ? row.integer("gold") : row.integer("label") - 1,
    }),
  }),
});
