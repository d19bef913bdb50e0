/** OpenBookQA (Mihaylov et al. 2018, arXiv:1809.02789): science facts put to use. The stem stands as it is. */
import { type ChoiceTask, defineTask } from "../task.ts";
import { readChoices, readStem } from "./choices.ts";

const dataset = "allenai/openbookqa";

export const openbookqa: ChoiceTask = defineTask({
  name: "openbookqa",
  version: 1,
  kind: "choice",
  data: { names: ["openbookqa"], hub: { dataset, config: "main", split: "test" } },
  examples: [{ names: ["openbookqa_train"], hub: { dataset, config: "main", split: "train" } }],
  paperRule: "unconditional",
  document: (row) => ({ context: readStem(row), ...readChoices(row) }),
});
