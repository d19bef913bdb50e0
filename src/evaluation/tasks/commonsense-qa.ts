/** CommonsenseQA (Talmor et al. 2019, arXiv:1811.00937): five answers, of which a letter is the choice. */
import { strip } from "../python.ts";
import { type ChoiceTask, defineTask } from "../task.ts";
import { readChoices } from "./choices.ts";

const dataset = "tau/commonsense_qa";
const LETTERS = ["A", "B", "C", "D", "E"];

export const commonsenseQa: ChoiceTask = defineTask({
  name: "commonsense_qa",
  version: 0,
  kind: "choice",
  data: { names: ["commonsense_qa"], hub: { dataset, config: "default", split: "validation" } },
  examples: [{ names: ["commonsense_qa_train"], hub: { dataset, config: "default", split: "train" } }],
  drawsOneMore: true,
  document(row) {
    const { choices: answers, gold } = readChoices(row);
    const choices = LETTERS.slice(0, answers.length);
    const lines = answers.map((answer, i) => `${choices[i]}. ${answer}\n`);
    const context = `Question: ${strip(row.text("question"))}\n${lines.join("")}Answer:`;
    return { context, choices, gold, target: choices[gold]! };
  },
});
