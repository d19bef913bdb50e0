/** Evaluation data in a folder, and on the Hugging Face Hub. */
import { readdir, readFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { FormatError } from "../errors.ts";
import { readWhole } from "../formats/bytes.ts";
import type { FileSet } from "../formats/hf-folder.ts";
import { type HubOptions, openHubDataset } from "../formats/node-hub.ts";
import { chooseFiles, type DataSource, MissingDataError } from "./data.ts";
import type { DataFile } from "./task.ts";

/** Makes a source of the files below a folder. */
export function folderData(folder: string): DataSource {
  let listed: Promise<readonly string[]> | undefined;
  return {
    name: folder,
    list: () => (listed ??= listFiles(folder)),
    read: (_file, path, signal) => readFile(join(folder, path), { signal }),
  };
}

async function listFiles(folder: string): Promise<readonly string[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true, recursive: true });
    return entries
      .filter((entry) => !entry.isDirectory())
      .map((entry) =>
        relative(folder, join(entry.parentPath ?? entry.path, entry.name))
          .split(sep)
          .join("/"),
      );
  } catch (cause) {
    throw new FormatError(
      `${folder}: a folder of evaluation data was required, and it can't be read. Check the path.`,
      {
        cause,
      },
    );
  }
}

/** The largest split of a known task, HellaSwag's examples, has 30 MB. */
const MAX_FILE_BYTES = 1 << 30;

/** Makes a source of the data sets that tasks name, each split downloaded when it is first asked for. */
export function hubData(options: HubOptions): DataSource {
  const opened = new Map<DataFile, Promise<FileSet>>();
  const open = (file: DataFile): Promise<FileSet> => {
    const { hub } = file;
    if (!hub) {
      return Promise.reject(
        new MissingDataError(`${file.names[0]}: this task is on no hub. Say in which folder its data lies.`),
      );
    }
    const known =
      opened.get(file) ?? openHubDataset(hub.dataset, (paths) => chooseFiles(paths, { names: [], hub }), options);
    opened.set(file, known);
    return known;
  };
  return {
    name: "the Hub",
    list: async (file) => (await open(file)).list(),
    async read(file, path) {
      const files = await open(file);
      try {
        return await readWhole(await files.open(path), MAX_FILE_BYTES);
      } finally {
        await files.close();
      }
    },
  };
}
