/** A saved trainer in a folder, which is replaced as a whole: at any moment there is the old one or the new. */
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { FormatError } from "../errors.ts";
import { exists, folderFiles, writeAtomically } from "../formats/node-files.ts";
import { type FurtherFiles, openSavedTrainer, type SavedTrainer, STATE_FILE, trainerFiles } from "./save.ts";
import type { TrainerCore } from "./trainer.ts";

/** @param files further files, by name, that belong to the same moment. */
export async function saveTrainer(trainer: TrainerCore, directory: string, files: FurtherFiles): Promise<void> {
  await settle(directory);
  const [fresh, old] = [`${directory}.new`, `${directory}.old`];
  await rm(fresh, { recursive: true, force: true });
  await rm(old, { recursive: true, force: true });
  await mkdir(fresh, { recursive: true });

  for (const { name, write } of trainerFiles(trainer, files)) await writeAtomically(join(fresh, name), write);

  if (await exists(directory)) await rename(directory, old);
  await rename(fresh, directory);
  await rm(old, { recursive: true, force: true });
}

/** What `saveTrainer` wrote. @throws {FormatError} if the folder is no saved trainer. */
export async function openTrainerFolder(directory: string): Promise<SavedTrainer> {
  await settle(directory);
  const files = folderFiles(directory);
  const path = join(directory, STATE_FILE);
  await files.open(STATE_FILE).catch((cause: Error) => {
    throw new FormatError(`${path}: a saved trainer was required, and this can't be read. Check the path.`, { cause });
  });
  return openSavedTrainer(files, path);
}

/** After a save that was broken off between its two renames: the old folder takes its place again. */
export async function settle(directory: string): Promise<void> {
  const old = `${directory}.old`;
  if (!(await exists(directory)) && (await exists(old))) await rename(old, directory);
}
