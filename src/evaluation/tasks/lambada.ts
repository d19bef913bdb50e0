/** LAMBADA (Paperno et al. 2016, arXiv:1606.06031) in OpenAI's version: the last word of a passage. */
import { defineTask, type LikelihoodTask } from "../task.ts";

export const lambadaOpenai: LikelihoodTask = defineTask({
  name: "lambada_openai",
  version: 1,
  kind: "likelihood",
  data: {
    names: ["lambada_openai"],
    hub: { dataset: "EleutherAI/lambada_openai", config: "default", split: "test" },
  },
  drawsOneMore: false,
  document(row) {
    const text = row.text("text");
    const end = text.lastIndexOf(" ");
    return { context: text.slice(0, Math.max(0, end)), continuation: ` ${text.slice(end + 1)}` };
  },
});
