/**
 * A trainer in a folder: a Hugging Face folder that any loader reads (config.json, model.safetensors), the optimizer's
 * moments beside it, and trainer.json. The folder is replaced as a whole: at any moment there is the old one or the new.
 */
import { mkdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { FormatError } from "../errors.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import { writeHfConfig } from "../formats/hf-config.ts";
import { openHfFolder } from "../formats/hf-folder.ts";
import { exists, fileSource, folderFiles, writeAtomically } from "../formats/node-files.ts";
import { readSafetensors, type TensorToWrite, writeSafetensors } from "../formats/safetensors.ts";
import { describe, isObject, parseJsonObject, printJson } from "../formats/json.ts";
import { toHfConfig } from "../model/config.ts";
import { createOptimizer } from "./optimizer.ts";
import { createSchedule } from "./schedule.ts";
import { readWeights } from "./parameter-sources.ts";
import type { ParameterSource, TrainerCore, TrainerState } from "./trainer.ts";

const FORMAT = 1;

/** @param files further files, by name, that belong to the same moment. */
export async function saveTrainer(
  trainer: TrainerCore,
  directory: string,
  files: Readonly<Record<string, string | Uint8Array>>,
): Promise<void> {
  await settle(directory);
  const [fresh, old] = [`${directory}.new`, `${directory}.old`];
  await rm(fresh, { recursive: true, force: true });
  await rm(old, { recursive: true, force: true });
  await mkdir(fresh, { recursive: true });

  const tensor = (name: string, stored: string, what: "weight" | "mean" | "square"): TensorToWrite => ({
    name: stored,
    shape: trainer.shapeOf(name),
    encoding: "F32",
    bytes: async () => new Uint8Array((await trainer.read(name, what)).buffer),
  });
  const names = trainer.parameterNames;
  await writeTensors(
    join(fresh, "model.safetensors"),
    names.map((name) => tensor(name, name, "weight")),
  );
  await writeTensors(
    join(fresh, "optimizer.safetensors"),
    names.flatMap((name) => [tensor(name, `mean.${name}`, "mean"), tensor(name, `square.${name}`, "square")]),
  );
  const texts: Readonly<Record<string, string | Uint8Array>> = {
    "config.json": printJson(writeHfConfig(toHfConfig(trainer.config), { torch_dtype: "float32" })),
    "trainer.json": printJson({ format: FORMAT, ...trainer.state() }),
    ...files,
  };
  for (const [name, content] of Object.entries(texts)) {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    await writeAtomically(join(fresh, name), (sink) => sink.write(bytes));
  }

  if (await exists(directory)) await rename(directory, old);
  await rename(fresh, directory);
  await rm(old, { recursive: true, force: true });
}

export type SavedTrainer = {
  readonly checkpoint: Checkpoint;
  readonly state: TrainerState;
  readonly source: ParameterSource;
  close(): Promise<void>;
};

/** What `saveTrainer` wrote. @throws {FormatError} if the folder is no saved trainer. */
export async function openSavedTrainer(directory: string): Promise<SavedTrainer> {
  await settle(directory);
  const path = join(directory, "trainer.json");
  const bytes = await readFile(path).catch((cause: Error) => {
    throw new FormatError(`${path}: a saved trainer was required, and this can't be read. Check the path.`, { cause });
  });
  const state = parseState(bytes, path);
  const checkpoint = await openHfFolder(folderFiles(directory));
  const moments = await openMoments(directory, checkpoint).catch(async (error: unknown) => {
    await checkpoint.close();
    throw error;
  });
  return {
    checkpoint,
    state,
    source: {
      steps: state.steps,
      weight: (name, count) => readWeights(checkpoint, name, count),
      moments: async (name, count) => ({
        mean: await readWeights(moments, `mean.${name}`, count),
        square: await readWeights(moments, `square.${name}`, count),
      }),
    },
    async close() {
      await moments.close();
      await checkpoint.close();
    },
  };
}

async function openMoments(directory: string, { config }: Checkpoint): Promise<Checkpoint> {
  const source = await fileSource(join(directory, "optimizer.safetensors"));
  const { name } = source;
  const close = (): Promise<void> => source.close();
  try {
    const tensors = await readSafetensors(source);
    return { format: "safetensors", name, config, tensors, tokenizer: { kind: "none" }, close };
  } catch (error) {
    await close();
    throw error;
  }
}

function parseState(bytes: Uint8Array, path: string): TrainerState {
  const { format, steps, optimizer, schedule } = parseJsonObject(bytes, path);
  if (format !== FORMAT) {
    throw new FormatError(
      `${path}: format ${FORMAT} was required, got ${describe(format)}. Use the version that wrote it.`,
    );
  }
  if (typeof steps !== "number" || !Number.isSafeInteger(steps) || steps < 0) {
    throw new FormatError(`${path}: steps must be a whole number from 0, got ${describe(steps)}.`);
  }
  if (!isObject(optimizer) || !isObject(schedule)) {
    throw new FormatError(`${path}: optimizer and schedule were required. Use an earlier checkpoint.`);
  }
  try {
    return { steps, optimizer: createOptimizer(optimizer), schedule: createSchedule(schedule) };
  } catch (cause) {
    throw new FormatError(`${path}: ${(cause as Error).message}`, { cause });
  }
}

/** After a save that was broken off between its two renames: the old folder takes its place again. */
export async function settle(directory: string): Promise<void> {
  const old = `${directory}.old`;
  if (!(await exists(directory)) && (await exists(old))) await rename(old, directory);
}

async function writeTensors(path: string, tensors: readonly TensorToWrite[]): Promise<void> {
  await writeAtomically(path, (sink) => writeSafetensors(sink, tensors));
}
