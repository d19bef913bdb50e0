/**
 * mobilellm/training in a browser or any other runtime with web APIs: trains from bytes, saves to bytes. Node has an
 * entry of its own (entries/node/training.ts), which adds folders and the Hub.
 */
import type { Checkpoint } from "../../formats/checkpoint.ts";
import { type FileRecord, type ModelBytes, openBytes, recordFiles } from "../../formats/open-bytes.ts";
import type { Model } from "../../inference/model.ts";
import { openTrainer, type TrainerStart, type UnsavedTrainer } from "../../edge/open-trainer.ts";
import { type FileToWrite, type FurtherFiles, openSavedTrainer, trainerFiles } from "../../training/save.ts";
import { webEdge } from "../../edge/web.ts";

export * from "../shared/training.ts";

/** Exactly one of `config`, `model` and `resume` says where to begin. */
export type CreateTrainerOptions = TrainerStart & {
  /**
   * Weights to go on from: a checkpoint (open, or the bytes of one, as `loadModel` takes them), or a loaded model in f32,
   * which is trained in place: what it generates after a step comes from the new weights.
   */
  readonly model?: Model | Checkpoint | ModelBytes | undefined;
  /**
   * What `trainer.save` gave, or the files of a folder that Node's wrote: goes on bit for bit, with its optimizer and
   * schedule unless others are given.
   */
  readonly resume?: FileRecord | undefined;
};

/** Files by name. A record of them is a model that `loadModel` takes. */
export type SavedFiles = Readonly<Record<string, Uint8Array<ArrayBuffer>>>;

export type Trainer = UnsavedTrainer & {
  /**
   * Everything that is needed to go on bit for bit, by file name: the bytes that Node's trainer writes into a folder. To be
   * kept in IndexedDB, in the page's private file system, as downloads; the weights load everywhere. `files` go with them.
   */
  save(options?: { readonly files?: FurtherFiles }): Promise<SavedFiles>;
};

/**
 * @example const trainer = await createTrainer({ model, schedule: { kind: "constant", peak: 1e-4 } });
 * @throws {RangeError} for settings out of range, {FormatError} for damaged files, {BackendError} when it does not fit.
 */
export async function createTrainer(options: CreateTrainerOptions): Promise<Trainer> {
  const { core, trainer } = await openTrainer(options, {
    ...webEdge(),
    openCheckpoint: (source: ModelBytes) => openBytes(source),
    openSaved: openRecord,
  });
  return Object.assign(trainer, {
    save: ({ files = {} }: { readonly files?: FurtherFiles } = {}) => toRecord(trainerFiles(core, files)),
  });
}

async function openRecord(record: FileRecord): ReturnType<typeof openSavedTrainer> {
  if (typeof record !== "object" || record === null) {
    throw new TypeError(
      `createTrainer: resume: expected the record of files that save gave, got ${typeof record}. Folders are for Node.`,
    );
  }
  return openSavedTrainer(recordFiles("resume", record));
}

/** Each file straight into the array that it is returned in: a copy of the moments on the way would be as large as they are. */
async function toRecord(files: readonly FileToWrite[]): Promise<SavedFiles> {
  const record = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const { name, size, write } of files) {
    const bytes = new Uint8Array(size);
    let end = 0;
    await write({
      async write(part) {
        bytes.set(part, end);
        end += part.length;
      },
    });
    record.set(name, bytes);
  }
  return Object.fromEntries(record);
}
