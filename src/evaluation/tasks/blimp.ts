/**
 * BLiMP (Warstadt et al. 2020, arXiv:1912.00582): which of two sentences is grammatical? Even models of a few million parameters are
 * above chance here. The mean is over all pairs; the harness has a task of 1,000 pairs for each of 67 phenomena.
 */
import { type ChoiceTask, defineTask } from "../task.ts";

export const blimp: ChoiceTask = defineTask({
  name: "blimp",
  version: 1,
  kind: "choice",
  data: { names: ["blimp", "blimp_babylm_filtered"] },
  document: (row) => ({ context: "", choices: [row.text("sentence_good"), row.text("sentence_bad")], gold: 0 }),
});
