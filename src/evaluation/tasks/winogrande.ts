/**
 * WinoGrande (Sakaguchi et al. 2019, arXiv:1907.10641): who is meant? Partial scoring (Trinh & Le 2018): each option takes
 * the blank, and the rest of the sentence is scored.
 */
import { FormatError } from "../../errors.ts";
import { strip } from "../python.ts";
import { type ChoiceTask, defineTask } from "../task.ts";
import { inRange } from "./choices.ts";

const dataset = "allenai/winogrande";

export const winogrande: ChoiceTask = defineTask({
  name: "winogrande",
  version: 1,
  kind: "choice",
  data: { names: ["winogrande"], hub: { dataset, config: "winogrande_xl", split: "validation" } },
  examples: [{ names: ["winogrande_train"], hub: { dataset, config: "winogrande_xl", split: "train" } }],
  drawsOneMore: true,
  document(row) {
    const sentence = row.text("sentence", "question");
    const blank = sentence.indexOf("_");
    if (blank < 0) throw new FormatError(`${row.where}: the sentence must have a blank (_), got ${sentence}.`);
    const { choices: options, gold } = inRange(row, {
      choices: row.has("choices") ? row.texts("choices") : [row.text("option1"), row.text("option2")],
      gold: row.has("gold") ? row.integer("gold") : row.integer("answer") - 1,
    });
    const rest = strip(sentence.slice(blank + 1));
    return {
      context: options.map((option) => sentence.slice(0, blank) + option),
      choices: options.map(() => rest),
      gold,
      target: rest,
    };
  },
});
