/**
 * The recipe: everything that decides a training run, as JSON (comments and trailing commas allowed). What a recipe leaves
 * out comes from its `preset`, then from the defaults below; `parseRecipe` gives back one in which nothing is left open,
 * which is itself a recipe.
 */
import { FormatError, isObject } from "../../errors.ts";
import { printJson } from "../../formats/json.ts";
import {
  configEntries,
  configSchema,
  feedForwardWidth,
  type ModelConfig,
  type PresetName,
  presets,
  type Sharing,
  sharingEntries,
} from "../../model/config.ts";
import * as o from "../../options.ts";
import { type Optimizer, optimizerSchema } from "../optimizer.ts";
import { planSteps, type Schedule, scheduleEntries, type Unplanned } from "../schedule.ts";
import { recipePresets } from "./recipe-presets.ts";

export type ModelRecipe = {
  /** One of the paper's models, from which comes what is left out here. */
  readonly preset?: PresetName | undefined;
  /** Width of the residual stream. */
  readonly dim?: number | undefined;
  /** Distinct blocks, each with its own weights. */
  readonly layers?: number | undefined;
  /** Query heads. */
  readonly heads?: number | undefined;
  /** Default: as many as heads. */
  readonly kvHeads?: number | undefined;
  /** Default: dim / heads. */
  readonly headSize?: number | undefined;
  /** Default: the paper's rule, 256·⌈(8·dim/3)/256⌉. */
  readonly hidden?: number | undefined;
  /** Default: the tokenizer's, whatever the preset. */
  readonly vocabSize?: number | undefined;
  /** Positions that the model is said to handle. Default: `data.length`. */
  readonly contextLength?: number | undefined;
  /** `swiglu`: gate, up and down; `relu`: up, ReLU, down. Default: `swiglu`. */
  readonly activation?: ModelConfig["activation"] | undefined;
  /** Whether one matrix serves embedding and head. Default: true. */
  readonly tied?: boolean | undefined;
  /** Under the square root of RMSNorm. Default: 1e-5. */
  readonly normEps?: number | undefined;
  /** Base of the rotary embedding's wavelengths. Default: 10000. */
  readonly ropeTheta?: number | undefined;
  /** How blocks share weights. Default: the preset's, else not at all. */
  readonly sharing?: SharingRecipe | undefined;
};

type SharingRecipe = Pick<Sharing, "kind" | "cache"> & {
  /** Applications of each block, 1 to 4. Default: 2. */
  readonly repeats?: number | undefined;
};

type DatasetRecipe = {
  /** Made by `mobilellm data`. */
  readonly folder: string;
  /** Rows are drawn in proportion to the weights, without any to the sizes. */
  readonly weight?: number | undefined;
};

type ChatsRecipe = {
  /** JSONL, also .gz: lines of {"messages": [{"role": "user", "content": "…"}, …]}. */
  readonly files: readonly string[];
  /** `pad`: a row for each conversation; `pack`: as many in a row as fit. */
  readonly packing: "pad" | "pack";
  /** Share that is never trained on. */
  readonly heldOut: number;
};

type DataRecipe = {
  /** Folders of tokens, to train on together. */
  readonly datasets: readonly DatasetRecipe[];
  /** Instead of data sets: conversations, of which only what the assistant says is learned. */
  readonly chats?: ChatsRecipe | undefined;
  /** A tokenizer with a chat template, for conversations. Default: the one of `init`. Data sets bring their own. */
  readonly tokenizer?: string | undefined;
  /** Tokens of a row that are predicted, T. */
  readonly length: number;
};

type BatchRecipe = {
  /** Rows that go through the model together; memory grows with them. */
  readonly rows: number;
  /** Such micro-batches in a step. */
  readonly accumulation: number;
};

type EvaluateRecipe = {
  /** Steps between two evaluations. */
  readonly every: number;
  /** Rows of the held-out split, the same each time. */
  readonly rows: number;
};

type SampleRecipe = {
  /** Steps between two samples. */
  readonly every: number;
  /** Each is continued greedily, and once at `temperature`. */
  readonly prompts: readonly string[];
  /** Most new tokens. */
  readonly tokens: number;
  /** Divides the logits. */
  readonly temperature: number;
};

type CheckpointRecipe = {
  /** A checkpoint is written after so many steps, or minutes. */
  readonly everySteps: number;
  /** A checkpoint is written after so many minutes, or steps. */
  readonly everyMinutes: number;
};

/** A checked recipe, with nothing left open but `threads` and what the tokenizer decides of the model. */
export type Recipe = {
  /** One of the paper's models by name, or a shape, to be trained from random weights. */
  readonly model?: ModelRecipe | undefined;
  /** Instead of a model: a checkpoint to go on from, its optimizer's state left behind: a folder, a .gguf file or a Hub id. */
  readonly init?: string | undefined;
  /** What is learned. */
  readonly data: DataRecipe;
  /** What goes into a step. */
  readonly batch: BatchRecipe;
  /** How gradients become an update. */
  readonly optimizer: Optimizer;
  /** The learning rate. Its peak may be { value, atTokensPerStep }, and is then scaled in proportion to the batch. */
  readonly schedule: Schedule;
  /** Random weights and the order of rows follow from it. */
  readonly seed: number;
  /** Default: one for each core. */
  readonly threads?: number | undefined;
  /** `reference` is plain TypeScript: slow, and what the numbers should be. */
  readonly device: "wasm" | "reference";
  /** Compute activations again in the backward pass instead of keeping them: less memory, about a third more work. */
  readonly recompute: boolean;
  /** Steps between two lines of the metrics. */
  readonly logEvery: number;
  /** Loss on what is held out of the data. */
  readonly evaluate: EvaluateRecipe;
  /** Texts of the model in training. */
  readonly sample: SampleRecipe;
  /** When the run is saved. */
  readonly checkpoint: CheckpointRecipe;
};

/** What only a recipe's file has. */
type FileKeys = {
  /** A named recipe, from which comes what is left out here. */
  readonly preset?: string | undefined;
  /** Where an editor finds the schema of recipes: `mobilellm train --schema` prints it. */
  readonly $schema?: string | undefined;
};

/** A peak that holds for one batch size; at others it is scaled in proportion (official MobileLLM README). */
type ScaledPeak = {
  /** Learning rate after the warm-up, at this batch size. */
  readonly value: number;
  /** Tokens of a step: rows · accumulation · length. */
  readonly atTokensPerStep: number;
};
type AnyPeak<S> = Omit<S, "peak"> & { readonly peak: number | ScaledPeak };
type ParsedRecipe = Omit<Recipe, "schedule"> & { readonly schedule: AnyPeak<Schedule> } & FileKeys;

const presetName = o.choice(...(Object.keys(presets) as PresetName[]));

const recipeName = o.choice(...Object.keys(recipePresets));

const modelShape = o.jsonObject<ModelRecipe>({
  preset: o.optional(presetName),
  dim: o.optional(configEntries.dim),
  layers: o.optional(configEntries.layers),
  heads: o.optional(configEntries.heads),
  kvHeads: o.optional(configEntries.kvHeads),
  headSize: o.optional(configEntries.headSize),
  hidden: o.optional(configEntries.hidden),
  vocabSize: o.optional(configEntries.vocabSize),
  contextLength: o.optional(configEntries.contextLength),
  activation: o.optional(configEntries.activation),
  tied: o.optional(configEntries.isTied),
  normEps: o.optional(configEntries.normEps),
  ropeTheta: o.optional(configEntries.ropeTheta),
  sharing: o.optional(
    o.jsonObject<SharingRecipe>({
      kind: sharingEntries.kind,
      repeats: o.optional(sharingEntries.repeats),
      cache: o.withDefault(sharingEntries.cache, "own"),
    }),
  ),
});

const fileSchema = o.jsonObject<ParsedRecipe>({
  $schema: o.optional(o.text),
  preset: o.optional(recipeName),
  model: o.optional(
    o.either(
      o.derived(presetName, (preset): ModelRecipe => ({ preset })),
      modelShape,
    ),
  ),
  init: o.optional(o.text),
  data: o.jsonObject<DataRecipe>({
    datasets: o.withDefault(
      o.list(o.jsonObject<DatasetRecipe>({ folder: o.text, weight: o.optional(o.positive) })),
      [],
    ),
    chats: o.optional(
      o.jsonObject<ChatsRecipe>({
        files: o.list(o.text),
        packing: o.withDefault(o.choice("pad", "pack"), "pad"),
        heldOut: o.withDefault(o.number({ min: 0, below: 1 }), 0.02),
      }),
    ),
    tokenizer: o.optional(o.text),
    length: o.withDefault(o.count, 1024),
  }),
  batch: o.section<BatchRecipe>({ rows: o.withDefault(o.count, 1), accumulation: o.withDefault(o.count, 1) }),
  optimizer: o.withDefault(optimizerSchema, {}),
  schedule: o.derived(
    o.jsonObject<AnyPeak<Unplanned & { readonly steps: number }>>({
      ...scheduleEntries,
      peak: o.either(o.positive, o.jsonObject<ScaledPeak>({ value: o.positive, atTokensPerStep: o.count })),
      steps: o.count,
    }),
    planSteps,
  ),
  seed: o.withDefault(o.wholeOrZero, 1),
  threads: o.optional(o.threads),
  device: o.withDefault(o.device, "wasm"),
  recompute: o.withDefault(o.flag, false),
  logEvery: o.withDefault(o.count, 1),
  evaluate: o.section<EvaluateRecipe>({ every: o.withDefault(o.count, 500), rows: o.withDefault(o.count, 64) }),
  sample: o.section<SampleRecipe>({
    every: o.withDefault(o.count, 1000),
    prompts: o.withDefault(o.list(o.text), []),
    tokens: o.withDefault(o.count, 64),
    temperature: o.withDefault(o.positive, 0.8),
  }),
  checkpoint: o.section<CheckpointRecipe>({
    everySteps: o.withDefault(o.count, 1000),
    everyMinutes: o.withDefault(o.positive, 15),
  }),
});

export const recipeSchema: o.Schema<unknown, Recipe> = o.derived(fileSchema, completeRecipe);

/** What follows from a batch: positions whose loss counts in a step. */
export function tokensPerStep({ batch, data }: Pick<Recipe, "batch" | "data">): number {
  return batch.rows * batch.accumulation * data.length;
}

/**
 * @param file for messages.
 * @throws {FormatError} naming the file and the path of what is wrong: `recipe.json: optimizer.betas[1]: …`.
 */
export function parseRecipe(source: string, file: string): Recipe {
  const recipe = o.checkFile(file, recipeSchema, withPreset(parseJsonWithComments(source, file)));
  // The tokenizer's ids don't change whether a shape is sound.
  if (recipe.model) createModelConfig(recipe, { vocabSize: 1, bosToken: undefined, eosTokens: [] }, file);
  return recipe;
}

function completeRecipe(parsed: ParsedRecipe, refuse: o.Refuse): Recipe {
  const { preset: _preset, $schema: _schema, ...recipe } = parsed;
  const { model, init, data, schedule } = recipe;
  if (model && init !== undefined) {
    refuse("model", "init brings a shape of its own, so the two exclude each other. Leave one out.");
  }
  if (!model && init === undefined) {
    const names = Object.keys(presets).join(", ");
    refuse(
      "model",
      `a preset's name, a shape, or init (a checkpoint to go on from) is required. Known presets: ${names}.`,
    );
  }
  checkData(data, init, refuse);
  const { peak } = schedule;
  const scaled = typeof peak === "number" ? peak : (peak.value * tokensPerStep(recipe)) / peak.atTokensPerStep;
  return { ...recipe, schedule: { ...schedule, peak: scaled } };
}

function checkData({ datasets, chats, tokenizer }: DataRecipe, init: string | undefined, refuse: o.Refuse): void {
  if (datasets.length === 0 && !chats) {
    refuse("data.datasets", "expected at least one data set, got none. Make one with `mobilellm data`.");
  }
  if (datasets.length > 0 && (chats ?? tokenizer) !== undefined) {
    refuse(
      `data.${chats ? "chats" : "tokenizer"}`,
      "goes without data.datasets, which bring a tokenizer. Leave one out.",
    );
  }
  if (chats && (tokenizer ?? init) === undefined) {
    refuse("data.tokenizer", "required for data.chats, when there is no init to take it from.");
  }
}

/** The recipe's own keys over those of its preset; lists and plain values replace, objects are joined. */
function withPreset(json: unknown): unknown {
  if (!isObject(json)) return json;
  const { preset: name, ...own } = json;
  if (typeof name !== "string" || !Object.hasOwn(recipePresets, name)) return json;
  const base: Record<string, unknown> = { ...recipePresets[name]! };
  if (own["init"] !== undefined) delete base["model"];
  if (own["model"] !== undefined) delete base["init"];
  const [theirs, ours] = [base["data"], own["data"]];
  if (isObject(theirs) && isObject(ours) && ours["chats"] !== undefined) {
    base["data"] = Object.fromEntries(Object.entries(theirs).filter(([key]) => key !== "datasets"));
  } else if (isObject(theirs) && isObject(ours) && ours["datasets"] !== undefined) {
    base["data"] = Object.fromEntries(Object.entries(theirs).filter(([key]) => key !== "chats"));
  }
  return join(base, own);
}

function join(base: Readonly<Record<string, unknown>>, own: Readonly<Record<string, unknown>>): object {
  const joined: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(own)) {
    const below = joined[key];
    // A model or a peak that is given anew is another one, not the preset's with changes.
    joined[key] = isObject(below) && isObject(value) && key !== "model" && key !== "peak" ? join(below, value) : value;
  }
  return joined;
}

/** What the tokenizer says about the model. */
export type Vocabulary = Pick<ModelConfig, "vocabSize" | "bosToken" | "eosTokens">;

/**
 * Makes the shape of a model that is trained from nothing.
 * @param file the recipe's, for messages.
 * @throws {FormatError} naming the recipe's key.
 */
export function createModelConfig(
  { model = {}, data }: Recipe,
  vocabulary: Vocabulary,
  file = "the recipe",
): ModelConfig {
  const base: Partial<ModelConfig> = model.preset === undefined ? {} : presets[model.preset];
  const refuse = (key: keyof ModelRecipe, why: string): never => {
    throw new FormatError(`${file}: model.${key}: ${why}`);
  };
  const required = (key: "dim" | "layers" | "heads"): number =>
    model[key] ?? base[key] ?? refuse(key, "required, but missing. Or name a model.preset.");
  const [dim, heads] = [required("dim"), required("heads")];
  const isReshaped = model.dim !== undefined || model.heads !== undefined;
  const headSize = model.headSize ?? (isReshaped ? dim / heads : base.headSize!);
  if (!Number.isInteger(headSize)) {
    refuse("headSize", `heads (${heads}) must divide dim (${dim}). Change heads, or give headSize.`);
  }
  const { sharing } = model;
  const config: ModelConfig = {
    dim,
    layers: required("layers"),
    heads,
    kvHeads: model.kvHeads ?? base.kvHeads ?? heads,
    headSize,
    hidden: model.hidden ?? (model.dim === undefined ? base.hidden : undefined) ?? feedForwardWidth(dim),
    vocabSize: model.vocabSize ?? vocabulary.vocabSize,
    contextLength: model.contextLength ?? data.length,
    activation: model.activation ?? base.activation ?? "swiglu",
    isTied: model.tied ?? base.isTied ?? true,
    normEps: model.normEps ?? base.normEps ?? 1e-5,
    ropeTheta: model.ropeTheta ?? base.ropeTheta ?? 10_000,
    sharing:
      sharing === undefined
        ? (base.sharing ?? { kind: "none", repeats: 1, cache: "own" })
        : { ...sharing, repeats: sharing.repeats ?? (sharing.kind === "none" ? 1 : 2) },
    bosToken: vocabulary.bosToken,
    eosTokens: vocabulary.eosTokens,
  };
  const { vocabSize, contextLength } = config;
  if (vocabSize < vocabulary.vocabSize) {
    refuse(
      "vocabSize",
      `expected at least the tokenizer's ${vocabulary.vocabSize}, got ${vocabSize}. Leave it out to take the tokenizer's.`,
    );
  }
  if (contextLength < data.length) {
    refuse("contextLength", `expected at least data.length (${data.length}), got ${contextLength}.`);
  }
  return o.checkFile(file, o.jsonObject({ model: configSchema }), { model: config }).model;
}

/** A preset as the text of a recipe. @throws {RangeError} for an unknown name. */
export function printRecipe(name: string): string {
  return printJson(recipePresets[o.check("recipe preset", recipeName, name)]);
}

/** JSON with comments and trailing commas. @throws {FormatError} naming the line. */
export function parseJsonWithComments(source: string, file: string): unknown {
  const blank = (part: string): string => (part.startsWith('"') ? part : part.replaceAll(/[^\n]/g, " "));
  // Blanks keep every character at its place, so that positions in messages are the file's.
  const json = source
    .replaceAll(/"(?:\\.|[^"\\\n])*"|\/\/[^\n]*|\/\*[\s\S]*?\*\//g, blank)
    .replaceAll(/"(?:\\.|[^"\\\n])*"|,(?=\s*[}\]])/g, blank);
  try {
    return JSON.parse(json);
  } catch (cause) {
    const [, position] = /position (\d+)/.exec((cause as Error).message) ?? [];
    const line = position === undefined ? "" : `line ${json.slice(0, Number(position)).split("\n").length}: `;
    throw new FormatError(`${file}: ${line}valid JSON was expected (${(cause as Error).message}).`, { cause });
  }
}
