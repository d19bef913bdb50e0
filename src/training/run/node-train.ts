/** A training run in a folder: opens what the recipe names, runs the loop, and closes everything again. */
import { join } from "node:path";
import { FormatError } from "../../errors.ts";
import type { Checkpoint } from "../../formats/checkpoint.ts";
import { parseJsonObject, printJson } from "../../formats/json.ts";
import type { Model } from "../../inference/model.ts";
import { countParameters, type ModelConfig } from "../../model/config.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import type { Loader, LoaderPosition } from "../data/loader.ts";
import type { TrainerCore } from "../trainer.ts";
import type { DatasetTokenizer } from "../data/node-prepare.ts";
import { type CheckpointName, type RunParts, type RunSummary, runTraining, type SamplePrompt } from "./loop.ts";
import type { MetricsRecord } from "./metrics.ts";
import { openRunFolder, type RunFolder } from "./node-run-folder.ts";
import { createModelConfig, parseRecipe, type Recipe } from "./recipe.ts";
import type { RunState } from "./run-state.ts";

/** The trainer of "mobilellm/training", as far as a run needs it. */
export type RunTrainer = RunParts["trainer"] &
  Pick<TrainerCore, "dispose"> & {
    openModel(options: { readonly tokenizer: Tokenizer }): Promise<Model>;
    save(directory: string, options: { readonly files: ModelFiles }): Promise<void>;
  };

/** Files by name. */
type ModelFiles = Readonly<Record<string, string | Uint8Array>>;

/** Where a trainer's weights come from. */
export type TrainerSource =
  | { readonly config: ModelConfig }
  | { readonly model: Checkpoint }
  | { readonly resume: string };

/** What a run's trainer is made of. */
export type RunTrainerOptions = TrainerSource &
  Pick<Recipe, "optimizer" | "schedule" | "recompute" | "seed" | "device" | "threads"> & {
    /** The most rows of a micro-batch. */
    readonly rows: number;
    /** The most predicted tokens of a row. */
    readonly length: number;
  };

/** What a run's loader is made of. */
export type RunLoaderOptions = Pick<Recipe, "data" | "seed"> & {
  readonly tokenizer: Tokenizer;
  readonly position: LoaderPosition | undefined;
};

/** What only the edge can do. */
export type TrainEdges = {
  createTrainer(options: RunTrainerOptions): Promise<RunTrainer>;
  openLoader(options: RunLoaderOptions): Promise<Loader & { close(): Promise<void> }>;
  /** Opens the tokenizer of a data set or a checkpoint. */
  openTokenizer(path: string, options: { readonly signal: AbortSignal }): Promise<DatasetTokenizer>;
  openCheckpoint(path: string, options: { readonly signal: AbortSignal }): Promise<Checkpoint>;
  /** Gives a token's FLOP forward: those of its matrices, and those for each position that it looks back at. */
  forwardFlops(config: ModelConfig): { readonly flopsPerToken: number; readonly attentionFlopsPerPosition: number };
  /** Measures FLOP/s. */
  measurePeak(recipe: Pick<Recipe, "threads" | "device">): Promise<number>;
};

/** What to train, and where. */
export type TrainOptions = {
  /** Text and name of a recipe; when resuming, by default the one that the run was started with. */
  readonly recipe: { readonly source: string; readonly file: string } | undefined;
  readonly out: string;
  readonly resume: CheckpointName | undefined;
  readonly threads: number | undefined;
  readonly signal: AbortSignal;
  readonly onRecord?: (record: MetricsRecord) => void;
};

/**
 * Trains what a recipe names, or goes on with it.
 * @throws {FormatError} for a recipe, data or a folder that can't be used, {TrainingError} when the loss explodes.
 */
export async function trainRecipe(options: TrainOptions, edges: TrainEdges): Promise<RunSummary> {
  const folder = await openRunFolder(options.out, options.resume !== undefined);
  const opened: (() => Promise<void>)[] = [() => folder.release()];
  try {
    return await train(options, edges, folder, opened);
  } finally {
    for (const close of opened.reverse()) await close();
  }
}

async function train(
  options: TrainOptions,
  edges: TrainEdges,
  folder: RunFolder,
  opened: (() => Promise<void>)[],
): Promise<RunSummary> {
  const { signal, resume } = options;
  const recipe = chooseRecipe(options, folder);
  const state = resume === undefined ? undefined : await folder.readState(resume);
  const { data, seed } = recipe;

  const tokenizerPath = data.tokenizer ?? data.datasets[0]?.folder ?? recipe.init!;
  const { tokenizer, files: tokenizerFiles } = await edges.openTokenizer(tokenizerPath, { signal });
  const loader = await edges.openLoader({ data, seed, tokenizer, position: state?.position });
  opened.push(() => loader.close());
  signal.throwIfAborted();

  const source = await chooseSource(recipe, tokenizer, state && folder.checkpointPath(resume!), edges, signal);
  const trainer = await openTrainer(source, recipe, edges);
  opened.push(() => trainer.dispose());
  checkVocabulary(trainer.config, tokenizer, recipe.init ?? "the model", tokenizerPath);
  if (trainer.config.contextLength < data.length) {
    throw new FormatError(
      `${recipe.init ?? "the model"}: data.length must be at most its context of ${trainer.config.contextLength} tokens, got ${data.length}.`,
    );
  }
  checkStep(trainer, state, folder);

  const files = modelFiles(tokenizer, tokenizerFiles, trainer.config);
  const save = (name: CheckpointName, saved: RunState): Promise<void> =>
    trainer.save(folder.checkpointPath(name), { files: { ...files, "run.json": printJson(saved) } });
  await folder.writeRecipe(printJson(recipe));
  // What `last` says of the growing files must not be more than is left of them.
  if (state && resume === "best") await save("last", state);
  const output = await folder.openOutput(state?.offsets, save);
  opened.push(() => output.close());

  const { flopsPerToken, attentionFlopsPerPosition } = edges.forwardFlops(trainer.config);
  const parts: RunParts = {
    trainer,
    loader,
    output,
    clock: { now: () => performance.now(), date: () => Date.now() },
    writeSamples: (requests, stop) => writeSamples(trainer, tokenizer, recipe, requests, stop),
    measurePeak: () => edges.measurePeak(recipe),
    signal,
    ...(options.onRecord && { onRecord: options.onRecord }),
  };
  const description = {
    name: folder.name,
    parameters: countParameters(trainer.config).total,
    shape: describeShape(trainer.config),
    // Backward is a product for the inputs and one for the weights; a token looks back at half the row on average.
    flopsPerToken: 3 * (flopsPerToken + (attentionFlopsPerPosition * (data.length + 1)) / 2),
  };
  return await runTraining(recipe, description, parts, state);
}

/** What may not change while a run goes on: other weights or other data would make it another run. */
const fixedKeys = ["model", "init", "data", "seed"] as const;

function chooseRecipe({ recipe: given, threads }: TrainOptions, folder: RunFolder): Recipe {
  const stored = folder.recipe === undefined ? undefined : parseRecipe(folder.recipe, join(folder.path, "recipe.json"));
  const changed = given && parseRecipe(given.source, given.file);
  const recipe = changed ?? stored;
  if (recipe === undefined) {
    throw new FormatError(`${folder.path}: a recipe is required to start a run. Print one with --print-recipe.`);
  }
  for (const key of fixedKeys) {
    if (stored === undefined || JSON.stringify(recipe[key]) === JSON.stringify(stored[key])) continue;
    throw new FormatError(
      `${given?.file}: ${key} must stay what the run in ${folder.path} was started with. Start another run for it, in another folder.`,
    );
  }
  return threads === undefined ? recipe : { ...recipe, threads };
}

async function chooseSource(
  recipe: Recipe,
  tokenizer: Tokenizer,
  resumed: string | undefined,
  edges: TrainEdges,
  signal: AbortSignal,
): Promise<TrainerSource> {
  if (resumed !== undefined) return { resume: resumed };
  if (recipe.init !== undefined) return { model: await edges.openCheckpoint(recipe.init, { signal }) };
  return { config: createModelConfig(recipe, tokenizer) };
}

async function openTrainer(source: TrainerSource, recipe: Recipe, edges: TrainEdges): Promise<RunTrainer> {
  const { optimizer, schedule, recompute, seed, device, threads, batch, data } = recipe;
  const settings = { optimizer, schedule, recompute, seed, device, threads, rows: batch.rows, length: data.length };
  try {
    return await edges.createTrainer({ ...source, ...settings });
  } finally {
    if ("model" in source) await source.model.close();
  }
}

function checkVocabulary(config: ModelConfig, tokenizer: Tokenizer, model: string, tokenizerPath: string): void {
  if (config.vocabSize >= tokenizer.vocabSize) return;
  throw new FormatError(
    `${model}: room for the ${tokenizer.vocabSize} tokens of ${tokenizerPath} was required, it has ${config.vocabSize}. Use the model's own tokenizer.`,
  );
}

function checkStep(trainer: RunTrainer, state: RunState | undefined, folder: RunFolder): void {
  const step = state?.step ?? 0;
  if (trainer.steps === step) return;
  throw new FormatError(
    `${folder.path}: the checkpoint's run.json is of step ${step}, its weights of step ${trainer.steps}. Resume from the other checkpoint.`,
  );
}

async function writeSamples(
  trainer: RunTrainer,
  tokenizer: Tokenizer,
  { sample, seed }: Recipe,
  requests: readonly SamplePrompt[],
  signal: AbortSignal,
): Promise<string[]> {
  const model = await trainer.openModel({ tokenizer });
  try {
    const texts: string[] = [];
    for (const { prompt, temperature } of requests) {
      const { text } = await model.generate(prompt, { temperature, seed, maxTokens: sample.tokens, signal }).result;
      texts.push(text);
    }
    return texts;
  } finally {
    await model.dispose();
  }
}

/** What makes a checkpoint a whole model for transformers and for us: the tokenizer, and how texts end. */
function modelFiles(
  tokenizer: Tokenizer,
  tokenizerFiles: DatasetTokenizer["files"],
  config: ModelConfig,
): Record<string, string | Uint8Array> {
  const given = tokenizerFiles.get("tokenizer_config.json");
  const [eos] = tokenizer.eosTokens;
  const tokenizerConfig = {
    tokenizer_class: tokenizerFiles.has("tokenizer.json") ? "PreTrainedTokenizerFast" : "LlamaTokenizer",
    ...(tokenizer.bosToken !== undefined && { bos_token: tokenizer.tokenText(tokenizer.bosToken) }),
    ...(eos !== undefined && { eos_token: tokenizer.tokenText(eos) }),
    ...(tokenizer.chatTemplate !== undefined && { chat_template: tokenizer.chatTemplate }),
    clean_up_tokenization_spaces: false,
    ...(given && parseJsonObject(given, "tokenizer_config.json")),
    model_max_length: config.contextLength,
  };
  const { bosToken, eosTokens } = config;
  return {
    ...Object.fromEntries(tokenizerFiles),
    "tokenizer_config.json": printJson(tokenizerConfig),
    "generation_config.json": printJson({
      ...(bosToken !== undefined && { bos_token_id: bosToken }),
      ...(eosTokens.length > 0 && { eos_token_id: eosTokens.length === 1 ? eosTokens[0] : eosTokens }),
      do_sample: true,
      temperature: 0.8,
    }),
  };
}

function describeShape({ layers, dim, heads, kvHeads, vocabSize, sharing }: ModelConfig): string {
  const shared = sharing.kind === "none" ? "" : `, ${sharing.kind} ×${sharing.repeats}`;
  return `${layers} layers × ${dim}, ${heads} heads (${kvHeads} kv), vocabulary ${vocabSize}${shared}`;
}
