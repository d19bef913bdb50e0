/** ARC (Clark et al. 2018, arXiv:1803.05457): school exams in science. */
import type { Row } from "../row.ts";
import { type ChoiceDocument, type ChoiceTask, type DataFile, defineTask } from "../task.ts";
import { readChoices, readStem } from "./choices.ts";

function document(row: Row): ChoiceDocument {
  return { context: `Question: ${readStem(row)}\nAnswer:`, ...readChoices(row) };
}

function split(file: string, original: string, config: string, name: string): DataFile {
  return { names: [file, original], hub: { dataset: "allenai/ai2_arc", config, split: name } };
}

/** The questions that simple methods answer. */
export const arcEasy: ChoiceTask = defineTask({
  name: "arc_easy",
  version: 1,
  kind: "choice",
  data: split("arc_easy", "ARC-Easy-Test", "ARC-Easy", "test"),
  examples: [
    split("arc_easy_train", "ARC-Easy-Train", "ARC-Easy", "train"),
    split("arc_easy_dev", "ARC-Easy-Dev", "ARC-Easy", "validation"),
  ],
  document,
});

/** The questions that simple methods fail at. */
export const arcChallenge: ChoiceTask = defineTask({
  name: "arc_challenge",
  version: 1,
  kind: "choice",
  data: split("arc_challenge", "ARC-Challenge-Test", "ARC-Challenge", "test"),
  examples: [
    split("arc_challenge_train", "ARC-Challenge-Train", "ARC-Challenge", "train"),
    split("arc_challenge_dev", "ARC-Challenge-Dev", "ARC-Challenge", "validation"),
  ],
  document,
});
