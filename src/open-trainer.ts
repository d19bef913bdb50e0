/** What both entries of mobilellm/training share: where a trainer begins, and a loaded model that is trained in place. */
import type { Device } from "./backends/backend.ts";
import { refuseUnknownKeys } from "./errors.ts";
import type { Checkpoint } from "./formats/checkpoint.ts";
import type { Model } from "./inference/model.ts";
import { fromHfConfig, type ModelConfig, type Sharing, toHfConfig } from "./model/config.ts";
import { chooseBackend, type ModelEdge } from "./open-model.ts";
import { checkpointParameters, randomParameters } from "./training/parameter-sources.ts";
import type { SavedTrainer } from "./training/save.ts";
import { snapshot } from "./training/snapshot.ts";
import { createTrainerOn, type ParameterSource, type TrainerCore, type TrainerOptions } from "./training/trainer.ts";

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
export type UnsavedTrainer = Omit<TrainerCore, "state" | "read" | "shapeOf" | "momentsOf" | "parameterNames"> & {
  /** The weights as they are now, to be loaded for sampling. */
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
  const start = async (config: ModelConfig, source: ParameterSource, settings: TrainerOptions, inPlace?: Model) => {
    const shared = { ...config, sharing: options.sharing ?? config.sharing };
    const core = await createTrainerOn(backend, shared, source, settings);
    return { core, trainer: createPublicTrainer(core, inPlace) };
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
  if (isModel(model)) {
    const source = { steps: 0, weight: (name: string) => model.weights.read(name) };
    return start(model.config, source, options, model);
  }
  if (isCheckpoint(model)) return start(fromHfConfig(model.config), checkpointParameters(model), options);
  const checkpoint = await edge.openCheckpoint(model);
  try {
    return await start(fromHfConfig(checkpoint.config), checkpointParameters(checkpoint), options);
  } finally {
    await checkpoint.close();
  }
}

function isModel(source: unknown): source is Model {
  return typeof source === "object" && source !== null && "weights" in source;
}

function isCheckpoint(source: unknown): source is Checkpoint {
  return typeof source === "object" && source !== null && "tensors" in source;
}

/** @param model gets the new weights. */
function createPublicTrainer(core: TrainerCore, model: Model | undefined): UnsavedTrainer {
  return {
    config: core.config,
    get steps() {
      return core.steps;
    },
    get description() {
      return core.description;
    },
    get memory() {
      return core.memory;
    },
    async step(microBatches, options) {
      const report = await core.step(microBatches, options);
      model?.weights.replace((name) => core.read(name, "weight"));
      return report;
    },
    evaluate: core.evaluate,
    gradients: core.gradients,
    async dispose() {
      await model?.weights.settle();
      await core.dispose();
    },
    checkpoint: () => snapshot(core, toHfConfig(core.config)),
  };
}
