/** mobilellm/training in Node: what the web entry has and, besides, folders and the Hub. */
import { isObject } from "../../errors.ts";
import type { Checkpoint } from "../../formats/checkpoint.ts";
import type { Model } from "../../inference/model.ts";
import * as o from "../../options.ts";
import { nodeEdge } from "../../edge/node.ts";
import { openCheckpoint } from "../../edge/node-open.ts";
import { readRecipe, trainEdges } from "../../edge/node-recipe.ts";
import { openTrainer, type TrainerStart, type UnsavedTrainer } from "../../edge/open-trainer.ts";
import { openTrainerFolder, saveTrainer } from "../../training/node-save.ts";
import type { FurtherFiles } from "../../training/save.ts";
import { type Dashboard, startDashboard as serveDashboard } from "../../training/run/dashboard/node-dashboard.ts";
import type { CheckpointName, RunSummary } from "../../training/run/loop.ts";
import type { MetricsRecord } from "../../training/run/metrics.ts";
import { trainRecipe } from "../../training/run/node-train.ts";

export * from "../shared/training.ts";
export {
  type ConvertDataOptions,
  type ConvertedData,
  convertData,
  dataDefaults,
  type DataPlaces,
  type DataProgress,
  type HoldOut,
  prepareData,
  type PrepareDataOptions,
  readManifest,
  type TextPlaces,
  trainTokenizer,
  type TrainTokenizerOptions,
} from "../../edge/node-data.ts";
export type { Manifest } from "../../training/data/manifest.ts";
export type { HeldOut } from "../../training/data/node-prepare.ts";
export type { TokenDtype } from "../../training/data/shard.ts";
export { formatDuration, formatNumber } from "../../training/run/dashboard/format.ts";
export type { Dashboard } from "../../training/run/dashboard/node-dashboard.ts";
export type { CheckpointName, RunSummary } from "../../training/run/loop.ts";
export type * from "../../training/run/metrics.ts";
export { printRecipe } from "../../training/run/recipe.ts";
export { recipePresets } from "../../training/run/recipe-presets.ts";

/** Exactly one of `config`, `model` and `resume` says where to begin. */
export type CreateTrainerOptions = TrainerStart & {
  /**
   * Weights to go on from: a checkpoint (open, or a folder, a .gguf file or a Hub id), or a loaded model in f32, which is
   * trained in place: what it generates after a step comes from the new weights.
   */
  readonly model?: Model | Checkpoint | string | undefined;
  /** What `trainer.save` wrote: goes on bit for bit, with its optimizer and schedule unless others are given. */
  readonly resume?: string | undefined;
};

export type Trainer = UnsavedTrainer & {
  /**
   * Everything that is needed to go on bit for bit, as a folder that is replaced as a whole; the weights in it load
   * everywhere. `files` are written beside them.
   */
  save(directory: string, options?: { readonly files?: FurtherFiles }): Promise<void>;
};

/**
 * @example const trainer = await createTrainer({ config: presets["125M"], schedule: { peak: 2e-3, steps: 120_000 } });
 * @throws {RangeError} for settings out of range, {FormatError} for damaged files, {BackendError} when it does not fit.
 */
export async function createTrainer(options: CreateTrainerOptions): Promise<Trainer> {
  const { core, trainer } = await openTrainer(options, {
    ...nodeEdge(),
    openCheckpoint: (source: string) => openCheckpoint(source),
    openSaved: openTrainerFolder,
  });
  return Object.assign(trainer, {
    save: (directory: string, { files = {} }: { readonly files?: FurtherFiles } = {}) =>
      saveTrainer(core, directory, files),
  });
}

/** Which run, and how it is watched and stopped. */
export type RunRecipeOptions = {
  /** The path of a recipe (JSON, comments allowed), or a recipe itself. Required to start a run; one that goes on has its own. */
  readonly recipe?: string | object | undefined;
  /** The run's folder: metrics, event files for TensorBoard, checkpoints. */
  readonly out: string;
  /** Goes on, bit for bit, from this checkpoint. Default: starts the run. */
  readonly resume?: CheckpointName | undefined;
  /** Default: the recipe's, else one for each core. The numbers don't depend on it. */
  readonly threads?: number | undefined;
  /** Saves a checkpoint and ends the run, which can be resumed. */
  readonly signal?: AbortSignal | undefined;
  /** Gets what metrics.jsonl gets: the start, steps, held-out losses, samples, the end. */
  readonly onRecord?: ((record: MetricsRecord) => void) | undefined;
};

const runRecipeSchema: o.Schema<RunRecipeOptions> = o.object<RunRecipeOptions>({
  recipe: o.optional(
    o.thing<string | object>("a path or a recipe", (value) => typeof value === "string" || isObject(value)),
  ),
  out: o.text,
  resume: o.optional(o.choice("last", "best")),
  threads: o.optional(o.threads),
  signal: o.optional(o.signal),
  onRecord: o.optional(o.callback<(record: MetricsRecord) => void>()),
});

/**
 * Trains a model by a recipe, or goes on with a run, until its last step or until `signal` aborts. The folder's `last/` and
 * `best/` are then models that `loadModel` takes.
 * @example const { best } = await runRecipe({ recipe: "recipe.json", out: "runs/stories", onRecord: console.log });
 * @throws {FormatError} for a recipe, data or a folder that can't be used, {TrainingError} when the loss explodes.
 */
export async function runRecipe(options: RunRecipeOptions): Promise<RunSummary> {
  const settings = o.check("runRecipe", runRecipeSchema, options);
  const { recipe, out, resume, threads, signal = new AbortController().signal, onRecord } = settings;
  const read = recipe === undefined ? undefined : await readRecipe(recipe);
  return trainRecipe(
    { recipe: read, out, resume, threads, signal, ...(onRecord && { onRecord }) },
    { ...trainEdges, createTrainer },
  );
}

type DashboardOptions = { readonly run: string; readonly port?: number | undefined };

const dashboardSchema: o.Schema<DashboardOptions, o.Filled<DashboardOptions>> = o.object({
  run: o.text,
  port: o.withDefault(o.number({ isWhole: true, min: 0, max: 65_535 }), 0),
});

/**
 * Serves a page with a run's curves and samples on 127.0.0.1, whether it goes on in this process, in another or is over.
 * @param options.run the run's folder.
 * @param options.port Default: 0, any that is free.
 * @example const { url, close } = await startDashboard({ run: "runs/stories" });
 * @throws {FormatError} if the port is taken.
 */
export async function startDashboard(options: DashboardOptions): Promise<Dashboard> {
  const { run, port } = o.check("startDashboard", dashboardSchema, options);
  return serveDashboard(run, port);
}
