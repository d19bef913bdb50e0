/** PIQA (Bisk et al. 2019, arXiv:1911.11641): how to do everyday things. */
import { type ChoiceTask, defineTask } from "../task.ts";
import { inRange } from "./choices.ts";

const dataset = "baber/piqa";

export const piqa: ChoiceTask = defineTask({
  name: "piqa",
  version: 1,
  kind: "choice",
  data: { names: ["piqa"], hub: { dataset, config: "default", split: "validation" } },
  examples: [{ names: ["piqa_train"], hub: { dataset, config: "default", split: "train" } }],
  drawsOneMore: true,
  document: (row) => ({
    context: `Question: ${row.text("goal", "question")}\nAnswer:`,
    ...inRange(row, {
      choices: row.has("choices") ? row.texts("choices") : [row.text("sol1"), row.text("sol2")],
      gold: row.integer("label", "gold"),
    }),
  }),
});
