/** A folder that is replaced as a whole: a reader finds the old one or the new one, never a mixture. */
import { mkdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { exists } from "./node-files.ts";

/**
 * Lets `fill` write into a new folder beside `path`, then puts that in its place. When `fill` fails, whatever was at `path` is
 * there still. When the process ends between the two renames, `settleFolder` brings the old folder back: whoever opens a
 * folder that is written this way calls it first, as this function does.
 */
export async function replaceFolder<T>(path: string, fill: (folder: string) => Promise<T>): Promise<T> {
  await settleFolder(path);
  const { target, fresh, old } = placesOf(path);
  for (const left of [fresh, old]) await rm(left, { recursive: true, force: true });
  await mkdir(fresh, { recursive: true });
  try {
    const result = await fill(fresh);
    if (await exists(target)) await rename(target, old);
    await rename(fresh, target);
    await rm(old, { recursive: true, force: true });
    return result;
  } catch (error) {
    await settleFolder(path);
    await rm(fresh, { recursive: true, force: true });
    throw error;
  }
}

/** Brings back the old folder after a replacement that was broken off between its renames; does nothing otherwise. */
export async function settleFolder(path: string): Promise<void> {
  const { target, old } = placesOf(path);
  if (!(await exists(target)) && (await exists(old))) await rename(old, target);
}

/** The folder, and its neighbours while it is replaced: on the same disk, so that a rename is all it takes. */
function placesOf(path: string): { readonly target: string; readonly fresh: string; readonly old: string } {
  const target = resolve(path);
  const beside = join(dirname(target), `.${basename(target)}`);
  return { target, fresh: `${beside}.new`, old: `${beside}.old` };
}
