/** What both entries of mobilellm/training share: where a trainer begins, and a loaded model that is trained in place. */
import type { Device } from "../backends/backend.ts";
import { refuseUnknownKeys } from "../errors.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import { loadedModelOf, type Model, openOver } from "../inference/model.ts";
import { fromHfConfig, type ModelConfig, type Sharing, toHfConfig } from "../model/config.ts";
import type { LoadedModel } from "../model/load.ts";
import { chooseBackend, type ModelEdge } from "./open-model.ts";
import { checkpointParameters, randomParameters } from "../training/parameter-sources.ts";
import type { SavedTrainer } from "../training/save.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { snapshot } from "../training/snapshot.ts";
import {
  createOwnTrainer,
  createTrainerOn,
  type ParameterSource,
  type TrainerCore,
  type TrainerOptions,
} from "../training/trainer.ts";

/** The options that don't depend on where files come from. */
export type TrainerStart = TrainerOptions & {
  /** A shape, to be trained from random weights. */
  readonly config?: ModelConfig | undefined;
  /** Layer sharing. Default: the config's. */
  readonly sharing?: Sharing | undefined;
  /** Of the random weights. Default: 0. */
  readonly seed?: number | undefined;
  /** Default: `wasm`. */
  readonly device?: Device | undefined;
  /** Default: one for each core; one where memory cannot be shared. The numbers don't depend on it. */
  readonly threads?: number | undefined;
};

/** A trainer but for how it is saved. */
export type UnsavedTrainer = Omit<
  TrainerCore,
  "state" | "read" | "shapeOf" | "momentsOf" | "parameterNames" | "loaded"
> & {
  /**
   * A model over the trainer's weights, which writes with them as they are when it runs; its cache is its own. Dispose of it when
   * done; the trainer goes on.
   */
  openModel(options?: { readonly tokenizer?: Tokenizer | undefined }): Promise<Model>;
  /** A copy of the weights as they are now, to be converted or loaded elsewhere. */
  checkpoint(): Promise<Checkpoint>;
};

/** What only the edge knows: threads, and how to open a model and a saved trainer. */
export type TrainerEdge<Source, Saved> = ModelEdge & {
  openCheckpoint(source: Source): Promise<Checkpoint>;
  openSaved(saved: Saved): Promise<SavedTrainer>;
};

const originKeys = ["config", "model", "resume"] as const;
const optionKeys = ["sharing", "seed", "device", "threads", "optimizer", "schedule", "rows", "length", "recompute"];

export async function openTrainer<Source, Saved>(
  options: TrainerStart & {
    readonly model?: Model | Checkpoint | Source | undefined;
    readonly resume?: Saved | undefined;
  },
  edge: TrainerEdge<Source, Saved>,
): Promise<{ readonly core: TrainerCore; readonly trainer: UnsavedTrainer }> {
  refuseUnknownKeys("createTrainer", options, [...originKeys, ...optionKeys]);
  const origins = originKeys.filter((key) => options[key] !== undefined);
  if (origins.length !== 1) {
    const got = origins.length === 0 ? "none" : origins.join(" and ");
    throw new TypeError(`createTrainer: exactly one of config, model and resume was required, got ${got}.`);
  }
  const { threads = edge.cores, device = "wasm", model, resume } = options;
  const backend = chooseBackend(device, { ...edge, threads });
  const start = async (config: ModelConfig, source: ParameterSource, settings: TrainerOptions) => {
    const core = await createOwnTrainer(backend, shareLayers(config, options.sharing), source, settings);
    return { core, trainer: createPublicTrainer(core) };
  };

  if (resume !== undefined) {
    const saved = await edge.openSaved(resume);
    try {
      const { optimizer = saved.state.optimizer, schedule = saved.state.schedule } = options;
      return await start(fromHfConfig(saved.checkpoint.config), saved.source, { ...options, optimizer, schedule });
    } finally {
      await saved.close();
    }
  }
  if (model === undefined) return start(options.config!, randomParameters(options.seed ?? 0), options);
  const loaded = loadedModelOf(model as object);
  if (loaded) {
    const core = await createTrainerOn(inPlace(loaded, options.sharing), { steps: 0 }, options);
    return { core, trainer: createPublicTrainer(core) };
  }
  if (isCheckpoint(model)) return start(fromHfConfig(model.config), checkpointParameters(model), options);
  const checkpoint = await edge.openCheckpoint(model as Source);
  try {
    return await start(fromHfConfig(checkpoint.config), checkpointParameters(checkpoint), options);
  } finally {
    await checkpoint.close();
  }
}

function shareLayers(config: ModelConfig, sharing: Sharing | undefined): ModelConfig {
  return { ...config, sharing: sharing ?? config.sharing };
}

/** A loaded model's own weights: what it writes after a step comes from the new ones. */
function inPlace(loaded: LoadedModel, sharing: Sharing | undefined): LoadedModel {
  const other = [...loaded.weights.values()].find(({ dtype }) => dtype !== "f32");
  if (!other) return { ...loaded, config: shareLayers(loaded.config, sharing) };
  throw new TypeError(
    `createTrainer: model: weights in f32 were required, got ${other.name} in ${other.dtype}. Load it with { dtype: "f32" }.`,
  );
}

function isCheckpoint(source: unknown): source is Checkpoint {
  return typeof source === "object" && source !== null && "tensors" in source;
}

function createPublicTrainer(core: TrainerCore): UnsavedTrainer {
  const { config, step, accumulate, reduce, update, readGradient, writeGradient, clearGradients } = core;
  return {
    config,
    get steps() {
      return core.steps;
    },
    get description() {
      return core.description;
    },
    get memory() {
      return core.memory;
    },
    step,
    accumulate,
    reduce,
    update,
    readGradient,
    writeGradient,
    clearGradients,
    evaluate: core.evaluate,
    gradients: core.gradients,
    openModel: ({ tokenizer } = {}) => openOver(core.loaded, "weights in training", tokenizer),
    checkpoint: () => snapshot(core, toHfConfig(config)),
    dispose: core.dispose,
  };
}
