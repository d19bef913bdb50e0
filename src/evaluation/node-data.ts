/** Evaluation data in a folder. */
import { readdir, readFile } from "node:fs/promises";
import { join, relative, sep } from "node:path";
import { FormatError } from "../errors.ts";
import type { DataSource } from "./data.ts";

/** The files below a folder. */
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
