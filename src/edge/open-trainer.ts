/** What both entries of mobilellm/training share: where a trainer begins, and a loaded model that is trained in place. */
import type { Device } from "../backends/backend.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import { loadedModelOf, type Model, openOver } from "../inference/model.ts";
import { fromHfConfig, type ModelConfig, type Sharing, sharingSchema, toHfConfig } from "../model/config.ts";
import type { LoadedModel } from "../model/load.ts";
import { chooseBackend, type ModelEdge } from "./open-model.ts";
import { useCheckpoint } from "./use-checkpoint.ts";
import * as o from "../options.ts";
import { checkpointParameters, randomParameters } from "../training/parameter-sources.ts";
import type { SavedTrainer } from "../training/save.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { snapshot } from "../training/snapshot.ts";
import {
  createOwnTrainer,
  createTrainerOn,
  type ParameterSource,
  type TrainerCore,
  trainerEntries,
  type TrainerOptions,
  type TrainerSettings,
} from "../training/trainer.ts";

/** The options that don't depend on where files come from. */
export type TrainerStart = TrainerOptions & {
  /** A shape, to be trained from random weights. */
  readonly config?: ModelConfig | undefined;
  /** Layer sharing. Default: the config's. */
  readonly sharing?: Sharing | undefined;
  /** The random weights follow from it. Default: 0. */
  readonly seed?: number | undefined;
  /** Default: `wasm`. A loaded model is trained where it is: on its own device, with its own threads. */
  readonly device?: Device | undefined;
  /** Default: one for each core; one where memory cannot be shared. The numbers don't depend on it. */
  readonly threads?: number | undefined;
};

/** A trainer but for how it is saved. */
export type UnsavedTrainer = Omit<
  TrainerCore,
  "state" | "read" | "shapeOf" | "momentsOf" | "tensorNames" | "parameterNames" | "loaded"
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

type Start = TrainerStart & { readonly model?: unknown; readonly resume?: unknown };
type CheckedStart = Omit<Start, keyof TrainerOptions> &
  TrainerSettings & { readonly device: Device; readonly seed: number };

const startSchema: o.Schema<Start, CheckedStart> = o.object<Start, CheckedStart>({
  ...trainerEntries,
  config: o.optional(o.instance("a model's config")), // checked by the trainer, with the sharing given
  model: o.optional(o.anything),
  resume: o.optional(o.anything),
  sharing: o.optional(sharingSchema),
  seed: o.withDefault(o.number({ isWhole: true }), 0),
  device: o.withDefault(o.device, "wasm"),
  threads: o.optional(o.threads),
});

export async function openTrainer<Source, Saved>(
  options: TrainerStart & {
    readonly model?: Model | Checkpoint | Source | undefined;
    readonly resume?: Saved | undefined;
  },
  edge: TrainerEdge<Source, Saved>,
): Promise<{ readonly core: TrainerCore; readonly trainer: UnsavedTrainer }> {
  const { config, model, resume, sharing, seed, device, threads, ...settings } = o.check(
    "createTrainer",
    startSchema,
    options,
  );
  const origins = originKeys.filter((key) => options[key] !== undefined);
  if (origins.length !== 1) {
    const got = origins.length === 0 ? "none" : origins.join(" and ");
    throw new TypeError(`createTrainer: exactly one of config, model and resume was required, got ${got}.`);
  }
  const backend = chooseBackend(device, { ...edge, threads: threads ?? edge.cores });
  const start = async (config: ModelConfig, source: ParameterSource, own: TrainerSettings = settings) => {
    const core = await createOwnTrainer(backend, shareLayers(config, sharing), source, own);
    return { core, trainer: createPublicTrainer(core) };
  };

  if (resume !== undefined) {
    const saved = await edge.openSaved(resume as Saved);
    try {
      const { optimizer = saved.state.optimizer, schedule = saved.state.schedule } = settings;
      return await start(fromHfConfig(saved.checkpoint.config), saved.source, { ...settings, optimizer, schedule });
    } finally {
      await saved.close();
    }
  }
  if (model === undefined) return start(config!, randomParameters(seed));
  const loaded = loadedModelOf(model as object);
  if (loaded) {
    const core = await createTrainerOn(inPlace(loaded, sharing), { steps: 0 }, settings);
    return { core, trainer: createPublicTrainer(core) };
  }
  return useCheckpoint(
    model as Checkpoint | Source,
    (source) => edge.openCheckpoint(source),
    (checkpoint) => start(fromHfConfig(checkpoint.config), checkpointParameters(checkpoint)),
  );
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
