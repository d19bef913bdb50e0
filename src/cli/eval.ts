/** `mobilellm eval`: benchmarks, as a table, as JSON, or as a page. */
import { writeFile } from "node:fs/promises";
import { styleText } from "node:util";
import { Command, InvalidArgumentError } from "commander";
import {
  evaluate,
  type Evaluation,
  type EvaluationProgress,
  loadTask,
  type Metric,
  renderReport,
  type Sample,
  type Task,
  taskGroups,
  type TaskResult,
  tasks,
} from "../entries/node/evaluation.ts";
import type { Model } from "../entries/node/index.ts";
import { untilInterrupted } from "./interrupt.ts";
import { addModelOptions, createProgressLine, type ModelOptions, openModel } from "./model-options.ts";
import { formatCount, formatTable, parseCount, UsageError } from "./usage.ts";

type Dtype = NonNullable<ModelOptions["dtype"]>;
type Options = ModelOptions & {
  tasks: string[];
  data?: string;
  limit?: number;
  fewShot?: number;
  unconditional: boolean;
  skipMissing?: boolean;
  resume?: string;
  samples?: string;
  report?: string;
  dtypes?: Dtype[];
  json?: boolean;
  list?: boolean;
};

export function createEvalCommand(): Command {
  const command = new Command("eval").description("benchmarks, scored as lm-evaluation-harness does");
  return addModelOptions(command)
    .option("--tasks <names>", "tasks and groups, separated by commas", parseNames, ["common-sense"])
    .option("--list", "the tasks and groups that there are")
    .option("--data <folder>", "where the data files lie (default: the data sets on the Hub, downloaded once)")
    .option("--limit <n>", "only the first n documents of each task", parseCount)
    .option("--few-shot <n>", "solved examples before each question (default: 0)", parseShots)
    .option("--no-unconditional", 'leave out the scores by P(choice | "Answer:")')
    .option("--skip-missing", "go on with the other tasks where data is missing")
    .option("--resume <file>", "keep answers there; a run that was stopped goes on from them")
    .option("--dtypes <names>", "one run for each, such as f32,q8,q4, compared", parseDtypes)
    .option("--samples <file>", "each document's requests and scores, a line each")
    .option("--report <file>", "a page (HTML) with charts, beside the paper's baselines")
    .option("--json", "for machines")
    .addHelpText(
      "after",
      "\nExample:\n  $ mobilellm eval --model model.gguf --tasks arc_easy,piqa --data eval-data --limit 200 --report scores.html",
    )
    .action((options: Options) => untilInterrupted((signal) => runEval(options, signal)));
}

async function runEval(options: Options, signal: AbortSignal): Promise<void> {
  if (options.list) {
    console.log(listTasks());
    return;
  }
  if (options.dtypes && options.dtype) throw new UsageError("eval: --dtype and --dtypes exclude each other.");
  const wanted = await Promise.all(options.tasks.map(async (name) => (/\.m?js$/.test(name) ? loadTask(name) : name)));
  const evaluations: Evaluation[] = [];
  for (const dtype of options.dtypes ?? [options.dtype]) {
    const model = await openModel({ ...options, dtype }, signal);
    try {
      evaluations.push(await run(model, wanted, options, signal));
    } finally {
      await model.dispose();
    }
  }
  if (options.samples !== undefined) await writeFile(options.samples, samplesAsLines(evaluations));
  if (options.report !== undefined) await writeFile(options.report, renderReport(evaluations));
  const bare = evaluations.map(withoutSamples);
  if (options.json) console.log(JSON.stringify(options.dtypes ? bare : bare[0], null, 2));
  else console.log(evaluations.map(toText).join("\n\n"));
}

async function run(
  model: Model,
  wanted: readonly (string | Task)[],
  options: Options,
  signal: AbortSignal,
): Promise<Evaluation> {
  const { data, limit, fewShot, unconditional, skipMissing, resume } = options;
  const progress = createProgressLine(options.dtypes ? `Evaluating in ${model.dtype}` : "Evaluating");
  const download = createProgressLine("Downloading");
  try {
    return await evaluate(model, {
      tasks: wanted,
      data,
      hub: {
        onProgress: ({ loadedBytes, totalBytes, file }) => {
          download.show(loadedBytes / totalBytes, ` · ${file}`);
          if (loadedBytes === totalBytes) download.clear();
        },
      },
      limit,
      fewShot,
      unconditional,
      skipMissing,
      resume: resume !== undefined && options.dtypes ? `${resume}.${model.dtype}` : resume,
      samples: options.samples !== undefined,
      signal,
      onProgress: (step) => progress.show(step.fraction, describeStep(step)),
    });
  } finally {
    download.clear();
    progress.clear();
  }
}

function describeStep({ task, secondsLeft }: EvaluationProgress): string {
  return ` · ${task}${secondsLeft === undefined ? "" : ` · ${formatDuration(secondsLeft)} left`}`;
}

function formatDuration(seconds: number): string {
  const total = Math.ceil(seconds);
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor((total % 3600) / 60);
  const two = (value: number): string => String(value).padStart(2, "0");
  return hours > 0 ? `${hours}:${two(minutes)}:${two(total % 60)}` : `${minutes}:${two(total % 60)}`;
}

function listTasks(): string {
  const groups = Object.entries(taskGroups).map(([name, members]) => `${name}: ${members.join(", ")}`);
  return [...tasks.keys(), ...groups].join("\n");
}

function toText({ model, tasks, missing }: Evaluation): string {
  const rows = Object.entries(tasks).flatMap(([name, result]) => taskRows(name, result));
  const table = formatTable([["task", "shots", "documents", "seconds", "metric", "value", "±"], ...rows]);
  const left = Object.values(missing).map((reason) => `left out: ${reason}`);
  return [styleText("bold", `${model.name} · ${model.dtype} · ${model.description}`), table, ...left].join("\n");
}

/** The task's name and counts once, then a line for each metric. */
function taskRows(name: string, { documents, fewShot, seconds, metrics }: TaskResult): string[][] {
  return Object.entries(metrics).map(([metric, value], i) => [
    ...(i === 0 ? [name, String(fewShot), formatCount(documents), seconds.toFixed(1)] : ["", "", "", ""]),
    metric,
    ...formatMetric(metric, value),
  ]);
}

/** Accuracies in percent; perplexities as they are. */
function formatMetric(metric: string, { value, stderr }: Metric): [string, string] {
  const isPercent = !/perplexity|bits/.test(metric);
  const format = (x: number): string => (isPercent ? (100 * x).toFixed(2) : x.toFixed(4));
  return [format(value), stderr === undefined ? "" : format(stderr)];
}

function withoutSamples(evaluation: Evaluation): Evaluation {
  const bare = Object.entries(evaluation.tasks).map(([name, result]) => [name, { ...result, samples: undefined }]);
  return { ...evaluation, tasks: Object.fromEntries(bare) as Evaluation["tasks"] };
}

function samplesAsLines(evaluations: readonly Evaluation[]): string {
  const line = (dtype: string, task: string, sample: Sample): string =>
    JSON.stringify(evaluations.length > 1 ? { task, dtype, ...sample } : { task, ...sample });
  return evaluations
    .flatMap(({ model, tasks }) =>
      Object.entries(tasks).flatMap(([name, { samples = [] }]) =>
        samples.map((sample) => `${line(model.dtype, name, sample)}\n`),
      ),
    )
    .join("");
}

function parseNames(text: string): string[] {
  const names = text.split(",").map((name) => name.trim());
  if (names.includes("")) throw new InvalidArgumentError("Expected names such as arc_easy,piqa.");
  return names;
}

function parseShots(text: string): number {
  return text === "0" ? 0 : parseCount(text);
}

function parseDtypes(text: string): Dtype[] {
  const known = ["f32", "bf16", "q8", "q4"];
  const names = parseNames(text);
  if (!names.every((name) => known.includes(name))) {
    throw new InvalidArgumentError(`Expected some of ${known.join(", ")}, such as f32,q8,q4.`);
  }
  return names as Dtype[];
}
