/**
 * A run's folder:
 *
 *     recipe.json               the checked recipe
 *     metrics.jsonl             a record a line (metrics.ts)
 *     events.out.tfevents.*     the same for TensorBoard
 *     last/ best/               checkpoints: Hugging Face folders, with the optimizer's state and run.json beside
 */
import { mkdir, open, readdir, readFile, rm, stat, writeFile, type FileHandle } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { FormatError } from "../../errors.ts";
import { writeAtomically } from "../../formats/node-files.ts";
import { settleFolder } from "../../formats/node-folder.ts";
import type { CheckpointName, RunOutput } from "./loop.ts";
import type { MetricsRecord } from "./metrics.ts";
import { type FileOffsets, parseRunState, type RunState } from "./run-state.ts";
import { encodeEvents, encodeFileVersion } from "./tensorboard.ts";

/** The name of the file that the dashboard follows. */
export const metricsFile = "metrics.jsonl";
const recipeFile = "recipe.json";
const lockFile = "running.pid";
/** TensorBoard takes every file with "tfevents" in its name; a run keeps to one. */
const eventsFile = "events.out.tfevents.0000000000.mobilellm";

/** A run's folder, held by this process until `release`. */
export type RunFolder = {
  readonly path: string;
  /** The last part of the path. */
  readonly name: string;
  /** The text of the recipe that the run was started with; undefined in a new folder. */
  readonly recipe: string | undefined;
  /** Reads a checkpoint's state. If there is none: undefined for `last`. @throws {FormatError} for any other. */
  readState(name: CheckpointName): Promise<RunState | undefined>;
  writeRecipe(json: string): Promise<void>;
  /** Cuts the growing files back to where the checkpoint was taken, and appends from there. */
  openOutput(from: FileOffsets | undefined, save: RunOutput["save"]): Promise<RunOutput & { close(): Promise<void> }>;
  checkpointPath(name: CheckpointName): string;
  /** Lets another process use the folder. */
  release(): Promise<void>;
};

/**
 * Makes the folder, or takes up a run that is in it.
 * @throws {FormatError} if it holds a run and none is to be resumed, the other way round, or another process trains there.
 */
export async function openRunFolder(path: string, isResumed: boolean): Promise<RunFolder> {
  const names = await readdir(path).catch((error: NodeJS.ErrnoException): string[] => {
    if (error.code === "ENOENT") return [];
    throw new FormatError(`${path}: a folder was required, but it can't be read (${error.code}).`, { cause: error });
  });
  const hasRun = names.includes(recipeFile);
  if (hasRun && !isResumed) {
    throw new FormatError(`${path}: holds a run already. Pass --resume to go on with it, or choose another folder.`);
  }
  if (!hasRun && isResumed) {
    throw new FormatError(`${path}: holds no run to resume (no ${recipeFile}). Leave out --resume to start one.`);
  }
  if (!hasRun && names.length > 0) {
    throw new FormatError(`${path}: an empty or new folder was required, it holds ${names[0]}. Choose another folder.`);
  }
  await mkdir(path, { recursive: true });
  const lock = join(path, lockFile);
  await takeLock(lock, path);
  return {
    path,
    name: basename(resolve(path)),
    recipe: hasRun ? await readFile(join(path, recipeFile), "utf8") : undefined,
    readState: async (name) => {
      await settleFolder(join(path, name));
      const file = join(path, name, "run.json");
      const json = await readFile(file, "utf8").catch((error: NodeJS.ErrnoException) => {
        if (error.code !== "ENOENT") throw error;
        if (name === "last") return undefined;
        throw new FormatError(`${path}: holds no ${name} checkpoint. Pass --resume alone.`, { cause: error });
      });
      return json === undefined ? undefined : parseRunState(json, file);
    },
    writeRecipe: async (json) => {
      await writeAtomically(join(path, recipeFile), (sink) => sink.write(new TextEncoder().encode(json)));
    },
    openOutput: (from, save) => openOutput(path, from, save),
    checkpointPath: (name) => join(path, name),
    release: () => rm(lock, { force: true }),
  };
}

/** Two processes in one folder would mix their metrics and overwrite each other's checkpoints. */
async function takeLock(lock: string, path: string): Promise<void> {
  const owner = Number(await readFile(lock, "utf8").catch(() => ""));
  if (owner > 0 && owner !== process.pid && isAlive(owner)) {
    throw new FormatError(
      `${path}: process ${owner} trains here. Wait for it to end; if it is another program, delete ${lock}.`,
    );
  }
  await writeFile(lock, String(process.pid));
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

async function openOutput(
  path: string,
  from: FileOffsets | undefined,
  save: RunOutput["save"],
): Promise<RunOutput & { close(): Promise<void> }> {
  const metrics = await openAt(join(path, metricsFile), from?.metrics ?? 0);
  const events = await openAt(join(path, eventsFile), from?.events ?? 0);
  const sizes = { metrics: from?.metrics ?? 0, events: from?.events ?? 0 };
  async function write(file: FileHandle, name: keyof FileOffsets, bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return;
    await file.appendFile(bytes);
    sizes[name] += bytes.length;
  }
  return {
    append: async (record: MetricsRecord) => {
      if (sizes.events === 0) await write(events, "events", encodeFileVersion(record.time));
      await write(metrics, "metrics", new TextEncoder().encode(`${JSON.stringify(record)}\n`));
      await write(events, "events", encodeEvents(record));
    },
    sync: async () => {
      await metrics.sync();
      await events.sync();
      return { ...sizes };
    },
    save,
    close: async () => {
      await metrics.close();
      await events.close();
    },
  };
}

async function openAt(path: string, size: number): Promise<FileHandle> {
  const file = await open(path, "a");
  const { size: found } = await stat(path);
  if (found < size) {
    await file.close();
    throw new FormatError(
      `${path}: the checkpoint was taken at ${size} bytes of it, it has ${found}. Was it shortened? Resume from the other checkpoint.`,
    );
  }
  await file.truncate(size);
  return file;
}
