/** HellaSwag (Zellers et al. 2019, arXiv:1905.07830): how does it go on? */
import { capitalize, strip } from "../python.ts";
import { type ChoiceTask, defineTask } from "../task.ts";
import { inRange } from "./choices.ts";

const dataset = "Rowan/hellaswag";

export const hellaswag: ChoiceTask = defineTask({
  name: "hellaswag",
  version: 1,
  kind: "choice",
  data: { names: ["hellaswag", "hellaswag_val"], hub: { dataset, config: "default", split: "validation" } },
  examples: [{ names: ["hellaswag_train"], hub: { dataset, config: "default", split: "train" } }],
  drawsOneMore: true,
  document(row) {
    // Our own files hold what `clean` once gave.
    if (row.has("query")) {
      const { choices, gold } = inRange(row, { choices: row.texts("choices"), gold: row.integer("gold") });
      return { context: row.text("query"), choices, gold };
    }
    const context = `${row.text("ctx_a")} ${capitalize(row.text("ctx_b"))}`;
    return {
      context: clean(`${row.text("activity_label")}: ${context}`),
      ...inRange(row, { choices: row.texts("endings").map(clean), gold: row.integer("label") }),
    };
  },
});

/** WikiHow's marks out, in the harness's order: so a choice that began with one keeps a space before it. */
function clean(text: string): string {
  return strip(text)
    .replaceAll(" [title]", ". ")
    .replaceAll(/\[[^\n]*?\]/g, "")
    .replaceAll("  ", " ");
}
