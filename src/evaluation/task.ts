/** What a task is: where its data lies, and what a document asks of the model. docs/evaluation.md shows how to add one. */
import * as o from "../options.ts";
import type { Row } from "./row.ts";

/** A split of a data set, as it lies in a folder and on the Hugging Face Hub. */
export type DataFile = {
  /** Names in a local folder, without ending; the first that is there counts. */
  readonly names: readonly string[];
  /** The data set on the Hub. A task of one's own may have none. */
  readonly hub?: HubFile;
};

type HubFile = { readonly dataset: string; readonly config: string; readonly split: string };

type TaskBase = {
  /** The harness's name, if it has this task. */
  readonly name: string;
  /** The version: the harness's, where it has this task. */
  readonly version: number;
  /** What is scored. */
  readonly data: DataFile;
  /** Where few-shot examples come from, by preference; `data` stands in for what is not there. */
  readonly examples?: readonly DataFile[];
  /**
   * Whether one example more than needed is drawn, to leave out the document that is asked about. Default: if examples come
   * from `data`. The harness does it for tasks that name no test split, and only for them.
   */
  readonly drawsOneMore?: boolean;
  /** Stands before everything. */
  readonly description?: string;
  /** Between few-shot examples. Default: an empty line. */
  readonly exampleDelimiter?: string;
  /** Makes the rows that documents are read from, where they are not those of the file. */
  readonly prepare?: (rows: readonly Row[]) => readonly Row[];
};

/** Which of several continuations is the likeliest? */
export type ChoiceTask = TaskBase & {
  readonly kind: "choice";
  readonly document: (row: Row) => ChoiceDocument;
  /** How `mobilellm_score` compares choices (LLaMA, arXiv:2302.13971, section 3). Default: `characters`. */
  readonly paperRule?: "characters" | "unconditional";
};

/** A question with choices. */
export type ChoiceDocument = {
  /** One for all choices, or one for each. */
  readonly context: string | readonly string[];
  /** What follows the context and a space. */
  readonly choices: readonly string[];
  /** The index of the right choice. */
  readonly gold: number;
  /** What the harness logs as the right answer. Default: `gold`. */
  readonly target?: string;
};

/** What does the model write, until a stop? */
export type GenerateTask = TaskBase & {
  readonly kind: "generate";
  readonly document: (row: Row) => GenerateDocument;
  /** Strings that end an answer. */
  readonly until: readonly string[];
  /** The most tokens of an answer. Default: 256. */
  readonly maxTokens?: number;
  /** What is left out of answers and references before they are compared. */
  readonly ignore?: RegExp;
};

/** A text to go on with, and the answers that are right. */
export type GenerateDocument = { readonly context: string; readonly references: readonly string[] };

/** How likely is this continuation, and is it the likeliest one? */
export type LikelihoodTask = TaskBase & {
  readonly kind: "likelihood";
  readonly document: (row: Row) => LikelihoodDocument;
};

/** A text and the continuation that is scored. */
export type LikelihoodDocument = { readonly context: string; readonly continuation: string };

/** How likely is a whole text? */
export type RollingTask = TaskBase & {
  readonly kind: "rolling";
  readonly document: (row: Row) => RollingDocument;
  /**
   * `rolling`: every token counts, in windows that follow each other (the harness). `chunks`: all text in one, cut into
   * windows of `contextLength`, the first token of each and the last window not counted (MobileLLM's eval.py).
   */
  readonly windows: "rolling" | "chunks";
};

/** A text that is scored as a whole. */
export type RollingDocument = {
  readonly text: string;
  /** The text that words and bytes are counted in. Default: `text`. */
  readonly original?: string;
};

/** A task of any kind. */
export type Task = ChoiceTask | GenerateTask | LikelihoodTask | RollingTask;

const isFilledList = (value: unknown): boolean => Array.isArray(value) && value.length > 0;
const dataFile = o.jsonObject<DataFile>({
  names: o.thing<readonly string[]>("a list of file names without their ending", isFilledList),
  hub: o.optional(o.jsonObject<HubFile>({ dataset: o.text, config: o.text, split: o.text })),
});

const baseEntries: o.Entries<o.Unknown<TaskBase>, TaskBase> = {
  name: o.thing<string>("a word such as my_task", (value) => typeof value === "string" && /^[\w.:@/-]+$/.test(value)),
  version: o.number(),
  data: dataFile,
  examples: o.optional(o.list(dataFile)),
  drawsOneMore: o.optional(o.flag),
  description: o.optional(o.string),
  exampleDelimiter: o.optional(o.string),
  prepare: o.optional(o.callback<(rows: readonly Row[]) => readonly Row[]>()),
};
const document = o.callback<never>();

const taskSchemas: { readonly [K in Task["kind"]]: o.Schema<unknown, Extract<Task, { readonly kind: K }>> } = {
  choice: o.jsonObject<ChoiceTask>({
    ...baseEntries,
    kind: o.choice("choice"),
    document,
    paperRule: o.optional(o.choice("characters", "unconditional")),
  }),
  generate: o.jsonObject<GenerateTask>({
    ...baseEntries,
    kind: o.choice("generate"),
    document,
    until: o.thing<readonly string[]>("a list of strings that end an answer", isFilledList),
    maxTokens: o.optional(o.count),
    ignore: o.optional(o.thing<RegExp>("a regular expression", (value) => value instanceof RegExp)),
  }),
  likelihood: o.jsonObject<LikelihoodTask>({ ...baseEntries, kind: o.choice("likelihood"), document }),
  rolling: o.jsonObject<RollingTask>({
    ...baseEntries,
    kind: o.choice("rolling"),
    document,
    windows: o.choice("rolling", "chunks"),
  }),
};
const kind = o.choice(...(Object.keys(taskSchemas) as Task["kind"][]));

/** Checks a task of one's own. @throws {TypeError} that names what is missing or unknown, {RangeError} for what is out of range. */
export function defineTask<T extends Task>(task: T): T {
  const where = `task ${task.name}`;
  const schema: o.Schema<unknown> = taskSchemas[o.check(`${where}.kind`, kind, task.kind)];
  o.check(where, schema, task);
  return task;
}
