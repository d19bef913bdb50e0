/** mobilellm/training in Node. */
import type { Device } from "./backends/backend.ts";
import { refuseUnknownKeys } from "./errors.ts";
import type { Checkpoint } from "./formats/checkpoint.ts";
import type { Model } from "./inference/model.ts";
import { fromHfConfig, type ModelConfig, type Sharing, toHfConfig } from "./model/config.ts";
import { nodeEdge, openCheckpoint } from "./node.ts";
import { chooseBackend } from "./open-model.ts";
import { openSavedTrainer, saveTrainer } from "./training/node-save.ts";
import { checkpointParameters, randomParameters } from "./training/parameter-sources.ts";
import { snapshot } from "./training/snapshot.ts";
import { createTrainerOn, type ParameterSource, type TrainerCore, type TrainerOptions } from "./training/trainer.ts";

export { TrainingError } from "./errors.ts";
export type { OptimizerOptions } from "./training/optimizer.ts";
export type { Row } from "./training/rows.ts";
export type { ScheduleOptions } from "./training/schedule.ts";
export type { StepReport, TrainerOptions } from "./training/trainer.ts";

/** Exactly one of `config`, `model` and `resume` says where to begin. */
export type CreateTrainerOptions = TrainerOptions & {
  /** A shape, to be trained from random weights. */
  readonly config?: ModelConfig | undefined;
  /**
   * Weights to go on from: a checkpoint (open, or a folder, a .gguf file or a Hub id), or a loaded model in f32, which is
   * trained in place: what it generates after a step comes from the new weights.
   */
  readonly model?: Model | Checkpoint | string | undefined;
  /** What `trainer.save` wrote: goes on bit for bit, with its optimizer and schedule unless others are given. */
  readonly resume?: string | undefined;
  /** Layer sharing. Default: the config's. */
  readonly sharing?: Sharing | undefined;
  /** Of the random weights. Default: 0. */
  readonly seed?: number | undefined;
  /** Default: `wasm`. */
  readonly device?: Device | undefined;
  /** Default: one for each core. The numbers don't depend on it. */
  readonly threads?: number | undefined;
};

export type Trainer = Omit<TrainerCore, "state" | "read" | "shapeOf" | "parameterNames"> & {
  /** The weights as they are now, to be loaded for sampling. */
  checkpoint(): Promise<Checkpoint>;
  /**
   * Everything that is needed to go on bit for bit, as a folder that is replaced as a whole; the weights in it load
   * everywhere. `files` are written beside them.
   */
  save(directory: string, options?: { readonly files?: Readonly<Record<string, string | Uint8Array>> }): Promise<void>;
};

const originKeys = ["config", "model", "resume"] as const;
const optionKeys = ["sharing", "seed", "device", "threads", "optimizer", "schedule", "rows", "length", "recompute"];

/**
 * @example const trainer = await createTrainer({ config: presets["125M"], schedule: { peak: 2e-3, steps: 120_000 } });
 * @throws {RangeError} for settings out of range, {FormatError} for damaged files, {BackendError} when it does not fit.
 */
export async function createTrainer(options: CreateTrainerOptions): Promise<Trainer> {
  refuseUnknownKeys("createTrainer", options, [...originKeys, ...optionKeys]);
  const origins = originKeys.filter((key) => options[key] !== undefined);
  if (origins.length !== 1) {
    const got = origins.length === 0 ? "none" : origins.join(" and ");
    throw new TypeError(`createTrainer: exactly one of config, model and resume was required, got ${got}.`);
  }
  const edge = nodeEdge();
  const { threads = edge.cores, device = "wasm" } = options;
  const backend = chooseBackend(device, { ...edge, threads });
  const start = async (
    config: ModelConfig,
    source: ParameterSource,
    settings: TrainerOptions,
    model?: Model,
  ): Promise<Trainer> => {
    const shared = { ...config, sharing: options.sharing ?? config.sharing };
    return withFiles(await createTrainerOn(backend, shared, source, settings), model);
  };

  if (options.resume !== undefined) {
    const saved = await openSavedTrainer(options.resume);
    try {
      const { optimizer = saved.state.optimizer, schedule = saved.state.schedule } = options;
      return await start(fromHfConfig(saved.checkpoint.config), saved.source, { ...options, optimizer, schedule });
    } finally {
      await saved.close();
    }
  }
  if (options.model !== undefined) {
    const { model } = options;
    if (typeof model === "object" && "weights" in model) {
      const source = { steps: 0, weight: (name: string) => model.weights.read(name) };
      return start(model.config, source, options, model);
    }
    const checkpoint = typeof model === "string" ? await openCheckpoint(model) : model;
    try {
      return await start(fromHfConfig(checkpoint.config), checkpointParameters(checkpoint), options);
    } finally {
      if (typeof model === "string") await checkpoint.close();
    }
  }
  return start(options.config!, randomParameters(options.seed ?? 0), options);
}

/** @param model gets the new weights. */
function withFiles(core: TrainerCore, model: Model | undefined): Trainer {
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
    save: (directory, { files = {} } = {}) => saveTrainer(core, directory, files),
  };
}
