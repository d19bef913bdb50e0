/** A saved trainer in a folder, which is replaced as a whole: at any moment there is the old one or the new. */
import { join } from "node:path";
import { FormatError } from "../errors.ts";
import { folderFiles, writeAtomically } from "../formats/node-files.ts";
import { replaceFolder, settleFolder } from "../formats/node-folder.ts";
import { type FurtherFiles, openSavedTrainer, type SavedTrainer, STATE_FILE, trainerFiles } from "./save.ts";
import type { TrainerCore } from "./trainer.ts";

/** @param files further files, by name, that belong to the same moment. */
export async function saveTrainer(trainer: TrainerCore, directory: string, files: FurtherFiles): Promise<void> {
  await replaceFolder(directory, async (folder) => {
    for (const { name, write } of trainerFiles(trainer, files)) await writeAtomically(join(folder, name), write);
  });
}

/** What `saveTrainer` wrote. @throws {FormatError} if the folder is no saved trainer. */
export async function openTrainerFolder(directory: string): Promise<SavedTrainer> {
  await settleFolder(directory);
  const files = folderFiles(directory);
  const path = join(directory, STATE_FILE);
  await files.open(STATE_FILE).catch((cause: Error) => {
    throw new FormatError(`${path}: a saved trainer was required, and this can't be read. Check the path.`, { cause });
  });
  return openSavedTrainer(files, path);
}
