/** Every task by name, and groups of them. */
import { nearestName } from "../errors.ts";
import type { Task } from "./task.ts";
import { arcChallenge, arcEasy } from "./tasks/arc.ts";
import { blimp } from "./tasks/blimp.ts";
import { boolq } from "./tasks/boolq.ts";
import { commonsenseQa } from "./tasks/commonsense-qa.ts";
import { hellaswag } from "./tasks/hellaswag.ts";
import { lambadaOpenai } from "./tasks/lambada.ts";
import { nqOpen, triviaqa } from "./tasks/open-questions.ts";
import { openbookqa } from "./tasks/openbookqa.ts";
import { piqa } from "./tasks/piqa.ts";
import { plainText } from "./tasks/plain-text.ts";
import { race, raceHigh, raceMiddle, raceV2 } from "./tasks/race.ts";
import { socialIqa } from "./tasks/social-iqa.ts";
import { wikitext, wikitextTokens } from "./tasks/wikitext.ts";
import { winogrande } from "./tasks/winogrande.ts";

/** Every task by its name. */
export const tasks: ReadonlyMap<string, Task> = new Map(
  [
    arcEasy,
    arcChallenge,
    boolq,
    piqa,
    socialIqa,
    hellaswag,
    openbookqa,
    winogrande,
    commonsenseQa,
    blimp,
    raceMiddle,
    raceHigh,
    race,
    raceV2,
    triviaqa,
    nqOpen,
    lambadaOpenai,
    wikitext,
    wikitextTokens,
  ].map((task) => [task.name, task]),
);

/** The eight tasks of the paper's Table 3, in its order. */
export const commonSense = [
  "arc_easy",
  "arc_challenge",
  "boolq",
  "piqa",
  "social_iqa",
  "hellaswag",
  "openbookqa",
  "winogrande",
] as const;

/** Names of tasks by the name of their group. */
export const taskGroups: Readonly<Record<string, readonly string[]>> = {
  "common-sense": commonSense,
  "question-answering": ["triviaqa", "nq_open"],
  "reading-comprehension": ["race_middle", "race_high"],
  perplexity: ["lambada_openai", "wikitext", "wikitext2_token_ppl"],
};

/** Finds tasks by name, by group, by text file; tasks of one's own stay. Each comes once. @throws {RangeError} for other names. */
export function findTasks(wanted: readonly (string | Task)[]): Task[] {
  const found = new Map<string, Task>();
  for (const entry of wanted) {
    const members = typeof entry === "string" ? (taskGroups[entry] ?? [entry]).map(findTask) : [entry];
    for (const task of members) found.set(task.name, task);
  }
  return [...found.values()];
}

function findTask(name: string): Task {
  const task = tasks.get(name);
  if (task) return task;
  if (/\.txt(\.gz)?$/.test(name)) return plainText(name);
  const known = [...tasks.keys(), ...Object.keys(taskGroups)];
  const nearest = nearestName(name, known);
  throw new RangeError(
    `tasks: unknown task ${JSON.stringify(name)}. ${nearest ? `Did you mean "${nearest}"?` : `Known: ${known.join(", ")}, and text files (name.txt).`}`,
  );
}
