/**
 * The recipe: everything that decides a training run, as JSON (comments and trailing commas allowed). What a recipe leaves
 * out comes from its `preset`, then from the defaults below; `parseRecipe` gives back one in which nothing is left open,
 * which is itself a recipe.
 */
import { FormatError, nearestName } from "../../errors.ts";
import { isObject, printJson } from "../../formats/json.ts";
import {
  checkConfig,
  feedForwardWidth,
  type ModelConfig,
  type PresetName,
  presets,
  type Sharing,
} from "../../model/config.ts";
import {
  choice,
  either,
  flag,
  list,
  number,
  object,
  optional,
  orNull,
  pair,
  section,
  type Shape,
  ShapeMismatch,
  text,
  withDefault,
} from "./json-shape.ts";
import { recipePresets } from "./recipe-presets.ts";

const count = number({ isWhole: true, min: 1 });
const wholeOrZero = number({ isWhole: true, min: 0 });
const isText = (value: unknown): boolean => typeof value === "string";

export type ModelRecipe = {
  /** One of the paper's models, from which comes what is left out here. */
  readonly preset: PresetName | undefined;
  readonly dim: number | undefined;
  readonly layers: number | undefined;
  readonly heads: number | undefined;
  /** Default: as many as heads. */
  readonly kvHeads: number | undefined;
  /** Default: dim / heads. */
  readonly headSize: number | undefined;
  /** Default: the paper's rule, 256·⌈(8·dim/3)/256⌉. */
  readonly hidden: number | undefined;
  /** Default: the tokenizer's, whatever the preset. */
  readonly vocabSize: number | undefined;
  /** Positions that the model is said to handle. Default: `data.length`. */
  readonly contextLength: number | undefined;
  readonly activation: ModelConfig["activation"] | undefined;
  readonly tied: boolean | undefined;
  readonly normEps: number | undefined;
  readonly ropeTheta: number | undefined;
  readonly sharing: (Pick<Sharing, "kind" | "cache"> & { readonly repeats: number | undefined }) | undefined;
};

/** A checked recipe, with nothing left open but `threads` and what the tokenizer decides of the model. */
export type Recipe = {
  /** Undefined with `init`. */
  readonly model: ModelRecipe | undefined;
  /** A checkpoint to go on from, its optimizer's state left behind: a folder, a .gguf file or a Hub id. */
  readonly init: string | undefined;
  readonly data: {
    /** Folders made by `mobilellm data`; rows are drawn in proportion to the weights, without any to the sizes. */
    readonly datasets: readonly { readonly folder: string; readonly weight: number | undefined }[];
    /** Instead of data sets: conversations, of which only what the assistant says is learned. */
    readonly chats:
      | {
          /** JSONL, also .gz: lines of {"messages": [{"role": "user", "content": "…"}, …]}. */
          readonly files: readonly string[];
          /** `pad`: a row for each conversation; `pack`: as many in a row as fit. */
          readonly packing: "pad" | "pack";
          /** Share that is never trained on. */
          readonly heldOut: number;
        }
      | undefined;
    /** With a chat template, for conversations. Default: the one of `init`. Data sets bring their own. */
    readonly tokenizer: string | undefined;
    /** Tokens of a row that are predicted, T. */
    readonly length: number;
  };
  readonly batch: {
    /** Rows that go through the model together; memory grows with them. */
    readonly rows: number;
    /** Such micro-batches in a step. */
    readonly accumulation: number;
  };
  readonly optimizer: {
    /** `muon` steps matrices other than embedding and head along orthogonal directions. */
    readonly kind: "adamw" | "muon";
    readonly betas: readonly [number, number];
    readonly eps: number;
    /** On matrices only. */
    readonly weightDecay: number;
    /** Largest global norm of the gradients; null: no limit. */
    readonly clip: number | null;
    /** Of Muon. */
    readonly momentum: number;
  };
  readonly schedule: {
    readonly kind: "cosine" | "linear" | "constant";
    /** Learning rate after the warm-up. */
    readonly peak: number;
    readonly warmupSteps: number;
    readonly steps: number;
    /** How many of the last steps fall. Default: all after the warm-up. */
    readonly decaySteps: number;
    /** Where the rate ends, as a fraction of the peak. */
    readonly floor: number;
  };
  readonly seed: number;
  /** Default: one for each core. */
  readonly threads: number | undefined;
  readonly device: "wasm" | "reference";
  /** Compute activations again in the backward pass instead of keeping them: less memory, about a third more work. */
  readonly recompute: boolean;
  /** Steps between two lines of the metrics. */
  readonly logEvery: number;
  readonly evaluate: {
    readonly every: number;
    /** Of the held-out split, the same each time. */
    readonly rows: number;
  };
  readonly sample: {
    readonly every: number;
    /** Each is continued greedily, and once at `temperature`. */
    readonly prompts: readonly string[];
    /** Most new tokens. */
    readonly tokens: number;
    readonly temperature: number;
  };
  readonly checkpoint: { readonly everySteps: number; readonly everyMinutes: number };
};

/** A peak that holds for one batch size; at others it is scaled in proportion (official MobileLLM README). */
type ScaledPeak = { readonly value: number; readonly atTokensPerStep: number };
type ParsedRecipe = Omit<Recipe, "schedule"> & {
  readonly schedule: Omit<Recipe["schedule"], "peak" | "decaySteps"> & {
    readonly peak: number | ScaledPeak;
    readonly decaySteps: number | undefined;
  };
};

const presetName: Shape<PresetName> = choice(...(Object.keys(presets) as PresetName[]));

const modelShape: Shape<ModelRecipe> = object({
  preset: optional(presetName),
  dim: optional(count),
  layers: optional(count),
  heads: optional(count),
  kvHeads: optional(count),
  headSize: optional(count),
  hidden: optional(count),
  vocabSize: optional(count),
  contextLength: optional(count),
  activation: optional(choice("swiglu", "relu")),
  tied: optional(flag),
  normEps: optional(number({ above: 0 })),
  ropeTheta: optional(number({ above: 0 })),
  sharing: optional(
    object({
      kind: choice("none", "immediate", "repeat", "reverse"),
      repeats: optional(number({ isWhole: true, min: 1, max: 4 })),
      cache: withDefault<Sharing["cache"]>(choice("own", "first"), "own"),
    }),
  ),
});

const recipeShape: Shape<ParsedRecipe> = object({
  model: optional(either(isText, (value, path) => modelShape({ preset: presetName(value, path) }, path), modelShape)),
  init: optional(text),
  data: object({
    datasets: withDefault(list(object({ folder: text, weight: optional(number({ above: 0 })) })), []),
    chats: optional(
      object({
        files: list(text),
        packing: withDefault<"pad" | "pack">(choice("pad", "pack"), "pad"),
        heldOut: withDefault(number({ min: 0, below: 1 }), 0.02),
      }),
    ),
    tokenizer: optional(text),
    length: withDefault(count, 1024),
  }),
  batch: section({ rows: withDefault(count, 1), accumulation: withDefault(count, 1) }),
  optimizer: section({
    kind: withDefault<"adamw" | "muon">(choice("adamw", "muon"), "adamw"),
    betas: withDefault(pair(number({ min: 0, below: 1 })), [0.9, 0.95]),
    eps: withDefault(number({ above: 0 }), 1e-8),
    weightDecay: withDefault(number({ min: 0 }), 0.1),
    clip: withDefault(orNull(number({ above: 0 })), 1),
    momentum: withDefault(number({ min: 0, below: 1 }), 0.95),
  }),
  schedule: object({
    kind: withDefault(choice("cosine", "linear", "constant"), "cosine"),
    peak: either(isObject, object({ value: number({ above: 0 }), atTokensPerStep: count }), number({ above: 0 })),
    warmupSteps: withDefault(wholeOrZero, 0),
    steps: count,
    decaySteps: optional(wholeOrZero),
    floor: withDefault(number({ min: 0, max: 1 }), 0.1),
  }),
  seed: withDefault(wholeOrZero, 1),
  threads: optional(number({ isWhole: true, min: 1, max: 64 })),
  device: withDefault(choice("wasm", "reference"), "wasm"),
  recompute: withDefault(flag, false),
  logEvery: withDefault(count, 1),
  evaluate: section({ every: withDefault(count, 500), rows: withDefault(count, 64) }),
  sample: section({
    every: withDefault(count, 1000),
    prompts: withDefault(list(text), []),
    tokens: withDefault(count, 64),
    temperature: withDefault(number({ above: 0 }), 0.8),
  }),
  checkpoint: section({
    everySteps: withDefault(count, 1000),
    everyMinutes: withDefault(number({ above: 0 }), 15),
  }),
});

/** What follows from a batch: positions whose loss counts in a step. */
export function tokensPerStep({ batch, data }: Pick<Recipe, "batch" | "data">): number {
  return batch.rows * batch.accumulation * data.length;
}

/**
 * @param file for messages.
 * @throws {FormatError} naming the file and the path of what is wrong: `recipe.json: optimizer.betas[1]: …`.
 */
export function parseRecipe(source: string, file: string): Recipe {
  try {
    return checkRecipe(parseJsonWithComments(source));
  } catch (cause) {
    if (!(cause instanceof ShapeMismatch)) throw cause;
    throw new FormatError(`${file}: ${cause.message}`, { cause });
  }
}

function checkRecipe(json: unknown): Recipe {
  const parsed = recipeShape(withPreset(json), "");
  const { model, init, data, schedule } = parsed;
  if ((model === undefined) === (init === undefined)) {
    throw new ShapeMismatch(
      init === undefined
        ? `model: a preset's name, a shape, or init (a checkpoint to go on from) is required. Known presets: ${Object.keys(presets).join(", ")}.`
        : "model: init brings a shape of its own, so the two exclude each other. Leave one out.",
    );
  }
  checkData(data, init);
  if (schedule.warmupSteps > schedule.steps) {
    throw new ShapeMismatch(
      `schedule.warmupSteps: expected at most schedule.steps (${schedule.steps}), got ${schedule.warmupSteps}.`,
    );
  }
  const stepsAfterWarmup = schedule.steps - schedule.warmupSteps;
  const { peak, decaySteps = stepsAfterWarmup } = schedule;
  if (decaySteps > stepsAfterWarmup) {
    throw new ShapeMismatch(
      `schedule.decaySteps: expected at most the ${stepsAfterWarmup} steps after the warm-up, got ${decaySteps}.`,
    );
  }
  const recipe: Recipe = {
    ...parsed,
    schedule: {
      ...schedule,
      decaySteps,
      peak: typeof peak === "number" ? peak : (peak.value * tokensPerStep(parsed)) / peak.atTokensPerStep,
    },
  };
  // The tokenizer's ids don't change whether a shape is sound.
  if (model !== undefined) createModelConfig(recipe, { vocabSize: 1, bosToken: undefined, eosTokens: [] });
  return recipe;
}

function checkData({ datasets, chats, tokenizer }: Recipe["data"], init: string | undefined): void {
  if (datasets.length === 0 && chats === undefined) {
    throw new ShapeMismatch("data.datasets: expected at least one data set, got none. Make one with `mobilellm data`.");
  }
  if (datasets.length > 0 && (chats ?? tokenizer) !== undefined) {
    const key = chats === undefined ? "tokenizer" : "chats";
    throw new ShapeMismatch(`data.${key}: goes without data.datasets, which bring a tokenizer. Leave one out.`);
  }
  if (chats !== undefined && (tokenizer ?? init) === undefined) {
    throw new ShapeMismatch("data.tokenizer: required for data.chats, when there is no init to take it from.");
  }
}

/** The recipe's own keys over those of its preset; lists and plain values replace, objects are joined. */
function withPreset(json: unknown): unknown {
  if (!isObject(json) || json["preset"] === undefined) return json;
  const { preset: name, ...own } = json;
  const names = Object.keys(recipePresets);
  if (typeof name !== "string" || !Object.hasOwn(recipePresets, name)) {
    const nearest = typeof name === "string" ? nearestName(name, names) : undefined;
    throw new ShapeMismatch(
      `preset: expected one of ${names.join(", ")}, got ${JSON.stringify(name)}.${nearest === undefined ? "" : ` Did you mean "${nearest}"?`}`,
    );
  }
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
 * The shape of a model that is trained from nothing.
 * @throws {ShapeMismatch} naming the recipe's key.
 */
export function createModelConfig(
  { model = modelShape({}, "model"), data }: Recipe,
  vocabulary: Vocabulary,
): ModelConfig {
  const base: Partial<ModelConfig> = model.preset === undefined ? {} : presets[model.preset];
  const required = (key: "dim" | "layers" | "heads"): number => {
    const value = model[key] ?? base[key];
    if (value === undefined) throw new ShapeMismatch(`model.${key}: required, but missing. Or name a model.preset.`);
    return value;
  };
  const [dim, heads] = [required("dim"), required("heads")];
  const isReshaped = model.dim !== undefined || model.heads !== undefined;
  const headSize = model.headSize ?? (isReshaped ? dim / heads : base.headSize!);
  if (!Number.isInteger(headSize)) {
    throw new ShapeMismatch(
      `model.headSize: heads (${heads}) must divide dim (${dim}). Change heads, or give headSize.`,
    );
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
  if (config.vocabSize < vocabulary.vocabSize) {
    throw new ShapeMismatch(
      `model.vocabSize: expected at least the tokenizer's ${vocabulary.vocabSize}, got ${config.vocabSize}. Leave it out to take the tokenizer's.`,
    );
  }
  if (config.contextLength < data.length) {
    throw new ShapeMismatch(
      `model.contextLength: expected at least data.length (${data.length}), got ${config.contextLength}.`,
    );
  }
  try {
    checkConfig(config);
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    throw new ShapeMismatch(cause.message.replace(/^(config\.)?/, "model."), { cause });
  }
  return config;
}

/** A preset as the text of a recipe. @throws {RangeError} for an unknown name. */
export function printRecipe(name: string): string {
  const names = Object.keys(recipePresets);
  if (!Object.hasOwn(recipePresets, name)) {
    const nearest = nearestName(name, names);
    throw new RangeError(
      `recipe preset: expected one of ${names.join(", ")}, got "${name}".${nearest === undefined ? "" : ` Did you mean "${nearest}"?`}`,
    );
  }
  return printJson(recipePresets[name]);
}

function parseJsonWithComments(source: string): unknown {
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
    throw new ShapeMismatch(`${line}valid JSON was expected (${(cause as Error).message}).`, { cause });
  }
}
