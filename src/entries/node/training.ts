/** mobilellm/training in Node: what the web entry has and, besides, folders and the Hub. */
import type { Checkpoint } from "../../formats/checkpoint.ts";
import type { Model } from "../../inference/model.ts";
import { nodeEdge } from "../../edge/node.ts";
import { openCheckpoint } from "./index.ts";
import { openTrainer, type TrainerStart, type UnsavedTrainer } from "../../edge/open-trainer.ts";
import { openTrainerFolder, saveTrainer } from "../../training/node-save.ts";
import type { FurtherFiles } from "../../training/save.ts";

export * from "../web/training.ts";

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
