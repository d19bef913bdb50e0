/**
 * A trainer as files with names: what any loader reads as a Hugging Face folder (config.json, model.safetensors), the optimizer's
 * moments beside it, and trainer.json. Where they lie is for the edge to say: in a folder, or in a page's memory.
 */
import { describe, FormatError } from "../errors.ts";
import { readWhole, type ByteSink } from "../formats/bytes.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import { writeHfConfig } from "../formats/hf-config.ts";
import { type FileSet, openHfFolder } from "../formats/hf-folder.ts";
import { parseJsonObject, printJson } from "../formats/json.ts";
import { readSafetensors, safetensorsSize, type TensorToWrite, writeSafetensors } from "../formats/safetensors.ts";
import { toHfConfig } from "../model/config.ts";
import * as o from "../options.ts";
import { optimizerSchema } from "./optimizer.ts";
import { readWeights } from "./parameter-sources.ts";
import { scheduleSchema } from "./schedule.ts";
import type { MomentName, ParameterSource, TrainerCore, TrainerState } from "./trainer.ts";

const FORMAT = 1;
export const STATE_FILE = "trainer.json";
const MOMENTS_FILE = "optimizer.safetensors";
/** The settings of a run have less than 1 kB. */
const MAX_STATE_BYTES = 1024 * 1024;

/** What belongs to the same moment as a trainer, by file name. */
export type FurtherFiles = Readonly<Record<string, string | Uint8Array>>;

export type FileToWrite = {
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  readonly write: (sink: ByteSink) => Promise<void>;
};

/** The files of a saved trainer, in the order in which they are to be written, one tensor in memory at a time. */
export function trainerFiles(trainer: TrainerCore, files: FurtherFiles): readonly FileToWrite[] {
  const tensor = (name: string, stored: string, what: "weight" | MomentName): TensorToWrite => ({
    name: stored,
    shape: trainer.shapeOf(name),
    encoding: "F32",
    bytes: async () => new Uint8Array((await trainer.read(name, what)).buffer),
  });
  const texts: FurtherFiles = {
    "config.json": printJson(writeHfConfig(toHfConfig(trainer.config), { torch_dtype: "float32" })),
    [STATE_FILE]: printJson({ format: FORMAT, ...trainer.state() }),
    ...files,
  };
  return [
    tensorsFile(
      "model.safetensors",
      trainer.tensorNames.map((name) => tensor(name, name, "weight")),
    ),
    tensorsFile(
      MOMENTS_FILE,
      trainer.parameterNames.flatMap((name) =>
        trainer.momentsOf(name).map((what) => tensor(name, `${what}.${name}`, what)),
      ),
    ),
    ...Object.entries(texts).map(([name, content]) => {
      const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
      return { name, size: bytes.length, write: (sink: ByteSink) => sink.write(bytes) };
    }),
  ];
}

function tensorsFile(name: string, tensors: readonly TensorToWrite[]): FileToWrite {
  return { name, size: safetensorsSize(tensors), write: (sink) => writeSafetensors(sink, tensors) };
}

export type SavedTrainer = {
  readonly checkpoint: Checkpoint;
  readonly state: TrainerState;
  readonly source: ParameterSource;
  close(): Promise<void>;
};

/**
 * What `trainerFiles` wrote. The files are closed with it, and when opening fails.
 * @param statePath of trainer.json, for messages.
 * @throws {FormatError} if the files are no saved trainer.
 */
export async function openSavedTrainer(files: FileSet, statePath: string = STATE_FILE): Promise<SavedTrainer> {
  const close = (): Promise<void> => files.close();
  try {
    const state = parseState(await readWhole(await files.open(STATE_FILE), MAX_STATE_BYTES), statePath);
    const checkpoint = await openHfFolder(files);
    const moments = await openMoments(files, checkpoint);
    return {
      checkpoint,
      state,
      source: {
        steps: state.steps,
        weight: (name, count) => readWeights(checkpoint, name, count),
        moment: (name, what, count) => readWeights(moments, `${what}.${name}`, count),
      },
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

async function openMoments(files: FileSet, { config }: Checkpoint): Promise<Checkpoint> {
  const source = await files.open(MOMENTS_FILE);
  const tensors = await readSafetensors(source);
  return {
    format: "safetensors",
    name: source.name,
    config,
    tensors,
    tokenizer: { kind: "none" },
    close: () => files.close(),
  };
}

const stateSchema = o.jsonObject<TrainerState & { readonly format: number }>({
  format: o.number(),
  steps: o.wholeOrZero,
  optimizer: optimizerSchema,
  schedule: scheduleSchema,
});

function parseState(bytes: Uint8Array, path: string): TrainerState {
  const json = parseJsonObject(bytes, path);
  if (json["format"] !== FORMAT) {
    throw new FormatError(
      `${path}: format ${FORMAT} was required, got ${describe(json["format"])}. Use the version that wrote it.`,
    );
  }
  const { steps, optimizer, schedule } = o.checkFile(path, stateSchema, json);
  return { steps, optimizer, schedule };
}
