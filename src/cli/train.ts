/** `mobilellm train`: a recipe becomes a model; what happens is told on stderr, the outcome on stdout. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { styleText } from "node:util";
import { Command, InvalidArgumentError, Option } from "commander";
import {
  type CheckpointName,
  formatDuration,
  formatNumber,
  type HeldOutRecord,
  type MetricsRecord,
  printRecipe,
  recipePresets,
  runRecipe,
  type RunSummary,
  type SampleRecord,
  startDashboard,
  type StartRecord,
  type StepRecord,
} from "../entries/node/training.ts";
import { parsePort } from "./dashboard.ts";
import { Interrupted, untilInterrupted } from "./interrupt.ts";
import { formatBytes, formatCount, parseCount, UsageError } from "./usage.ts";

/** Made by the build. */
const recipeSchema = new URL("../recipe.schema.json", import.meta.url);

type TrainOptions = {
  out?: string;
  resume?: CheckpointName;
  dashboard?: number;
  threads?: number;
  printRecipe?: string;
  schema?: boolean;
  json?: boolean;
};

export function createTrainCommand(): Command {
  return new Command("train")
    .description("train a model by a recipe; Ctrl-C saves and stops")
    .argument("[recipe]", "JSON, comments allowed (with --resume by default the run's own)")
    .option("--out <folder>", "the run: metrics, event files for TensorBoard, checkpoints")
    .addOption(
      new Option("--resume [checkpoint]", "go on, bit for bit, from the last or the best checkpoint")
        .argParser(parseCheckpoint)
        .preset("last"),
    )
    .addOption(
      new Option("--dashboard [port]", "curves and samples in the browser, on 127.0.0.1")
        .argParser(parsePort)
        .preset("0"),
    )
    .option(
      "--threads <n>",
      "default: the recipe's, else one for each core; the numbers don't depend on it",
      parseCount,
    )
    .addOption(new Option("--print-recipe <name>", "a named recipe, to start from").choices(Object.keys(recipePresets)))
    .option("--schema", "the JSON Schema of recipes, for editors")
    .option("--json", "the outcome for machines")
    .addHelpText(
      "after",
      "\nExample:\n  $ mobilellm train --print-recipe laptop-5M > recipe.json\n  $ mobilellm train recipe.json --out runs/stories --dashboard",
    )
    .action((recipe: string | undefined, options: TrainOptions) =>
      untilInterrupted((signal) => runTrain(recipe, options, signal)),
    );
}

async function runTrain(recipe: string | undefined, options: TrainOptions, signal: AbortSignal): Promise<void> {
  if (options.printRecipe !== undefined) return console.log(printRecipe(options.printRecipe).trimEnd());
  if (options.schema) return console.log((await readFile(recipeSchema, "utf8")).trimEnd());
  const { out, resume, threads } = options;
  if (out === undefined) throw new UsageError("train: --out <folder> is required, the run goes there.");
  if (recipe === undefined && resume === undefined) {
    throw new UsageError("train: a recipe is required. Print one with --print-recipe, or go on with --resume.");
  }
  const { dashboard: port } = options;
  const dashboard = port === undefined ? undefined : await startDashboard({ run: out, port });
  const progress = createProgress(dashboard?.url);
  let summary: RunSummary;
  try {
    summary = await runRecipe({ recipe, out, resume, threads, signal, onRecord: progress.show });
  } catch (error) {
    // Ctrl-C saves, and what goes wrong then must not pass for a run that stopped cleanly.
    if (signal.aborted && error !== signal.reason) console.error(`mobilellm: ${(error as Error).message}`);
    throw error;
  } finally {
    progress.clear();
    await dashboard?.close();
  }
  console.log(options.json ? JSON.stringify({ folder: out, ...summary }, null, 2) : formatSummary(summary, out));
  if (summary.reason === "interrupted") throw new Interrupted("interrupted");
}

/** Lines between which nothing else is said when nobody watches: a log that can be read afterwards. */
const EVERY_MS = 10_000;

/** One line that changes while somebody watches, else one now and then; held-out losses and samples stay. */
function createProgress(url: string | undefined): {
  readonly show: (record: MetricsRecord) => void;
  readonly clear: () => void;
} {
  const isWatched = process.stderr.isTTY;
  let isShown = false;
  let lastMs = -Infinity;
  let steps = 0;
  const clear = (): void => {
    if (isShown) process.stderr.write("\r\u001B[K");
    isShown = false;
  };
  const say = (line: string): void => {
    clear();
    process.stderr.write(`${line}\n`);
  };
  return {
    clear,
    show(record) {
      switch (record.kind) {
        case "start":
          steps = record.steps;
          say(`${record.shape} · ${formatNumber(record.parameters)} parameters · ${record.device}`);
          say(formatMemory(record.memory));
          if (url !== undefined) say(`dashboard: ${url}`);
          return;
        case "step": {
          const now = performance.now();
          if (isWatched) {
            process.stderr.write(`\r\u001B[K${formatStep(record, steps)}`);
            isShown = true;
          } else if (now - lastMs >= EVERY_MS || record.step === steps) {
            lastMs = now;
            say(formatStep(record, steps));
          }
          return;
        }
        case "heldOut":
          return say(formatHeldOut(record));
        case "sample":
          return say(formatSample(record));
        case "end":
          return;
      }
    },
  };
}

function formatMemory({ total, weights, gradients, moments, activations }: StartRecord["memory"]): string {
  const parts = Object.entries({ weights, gradients, moments, activations });
  return `${formatBytes(total)} of memory: ${parts.map(([name, bytes]) => `${name} ${formatBytes(bytes)}`).join(", ")}`;
}

function formatStep(record: StepRecord, steps: number): string {
  return [
    `step ${formatCount(record.step)}/${formatCount(steps)}`,
    `loss ${record.loss.toFixed(3)}`,
    `lr ${formatNumber(record.learningRate)}`,
    `norm ${record.gradientNorm.toFixed(2)}`,
    `${formatNumber(record.tokensPerSecond)} tokens/s`,
    `${formatNumber(record.flopsPerSecond, "FLOP/s")} (${(100 * record.utilisation).toFixed(0)} %)`,
    `${formatDuration(record.remainingMs)} left`,
  ].join(" · ");
}

function formatHeldOut({ step, loss, bitsPerByte, isBest }: HeldOutRecord): string {
  const best = isBest ? ", the best so far" : "";
  return `step ${formatCount(step)}: held-out loss ${loss.toFixed(3)}, ${bitsPerByte.toFixed(3)} bits per byte${best}`;
}

function formatSample({ prompt, text, temperature }: SampleRecord): string {
  const how = temperature === 0 ? "greedy" : `temperature ${temperature}`;
  const quiet = (words: string): string => styleText("dim", words, { stream: process.stderr });
  return `${quiet(`  [${how}] ${prompt}`)}${text.trimEnd().replaceAll(/\s*\n\s*/g, " ⏎ ")}`;
}

function formatSummary({ reason, step, steps, tokens, elapsedMs, best, ...speed }: RunSummary, out: string): string {
  const lines = [
    `${reason} after ${formatCount(step)} of ${formatCount(steps)} steps, ${formatNumber(tokens)} tokens, ${formatDuration(elapsedMs)}`,
  ];
  if (speed.tokensPerSecond > 0) {
    lines.push(
      `${formatNumber(speed.tokensPerSecond)} tokens/s, ${formatNumber(speed.flopsPerSecond, "FLOP/s")}, ${(100 * speed.utilisation).toFixed(0)} % of the peak`,
    );
  }
  if (best !== undefined) {
    lines.push(
      `best held-out loss ${best.loss.toFixed(3)}, ${best.bitsPerByte.toFixed(3)} bits per byte, at step ${formatCount(best.step)}`,
    );
  }
  const model = join(out, best === undefined ? "last" : "best");
  lines.push(
    reason === "interrupted"
      ? `Go on with: mobilellm train --out ${out} --resume`
      : `Try it: mobilellm generate --model ${model} · make a .gguf: mobilellm convert ${model} model.gguf`,
  );
  return lines.join("\n");
}

function parseCheckpoint(text: string): CheckpointName {
  if (text === "last" || text === "best") return text;
  throw new InvalidArgumentError("Expected last or best; the recipe goes before the options.");
}
