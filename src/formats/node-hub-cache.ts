/**
 * How the Hub's cache lies on disk, as Python's huggingface_hub has it:
 * models--org--name/{ blobs/<hash>, snapshots/<commit>/<path> → ../../blobs/<hash>, refs/<branch> }.
 */
import { copyFile, lstat, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import type { FileSet } from "./hf-folder.ts";
import { openOnce } from "./node-files.ts";

/** A repository's `org/name`, a branch, tag or commit of it, and the one file that is asked for, if any. */
export type HubId = { readonly name: string; readonly revision: string; readonly file: string | undefined };

/** Reads `org/name`, `org/name@revision` or `org/name/file.gguf`. @throws {RangeError} for anything else. */
export function parseHubId(id: string): HubId {
  const match = /^([\w.-]+\/[\w.-]+)(?:\/([^@]+\.gguf))?(?:@([\w./-]+))?$/.exec(id);
  const [, name, file, revision = "main"] = match ?? [];
  if (name === undefined || [name, file ?? "", revision].some(leadsOut)) {
    throw new RangeError(
      `model: "org/name", "org/name@revision" or "org/name/file.gguf" was required, got ${JSON.stringify(id)}.`,
    );
  }
  return { name, revision, file };
}

/** Whether a path would leave the folder that it is meant for: paths and revisions become paths in the cache. */
export function leadsOut(path: string): boolean {
  return path.startsWith("/") || /[\\:\0]|(^|\/)\.\.?(\/|$)|\/\/|\/$/.test(path);
}

/** Whether a revision is a commit's hash, which never changes its meaning. */
export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);

/** Finds the folder of a revision in the cache; undefined if it is not there. */
export async function cachedSnapshot(revision: string, repoDir: string): Promise<string | undefined> {
  const commit = isCommit(revision) ? revision : (await readIfThere(join(repoDir, "refs", revision)))?.trim();
  if (commit === undefined || !isCommit(commit)) return undefined;
  const snapshot = join(repoDir, "snapshots", commit);
  return (await sizeOf(snapshot)) === undefined ? undefined : snapshot;
}

/** Lists the files below a folder, with `/`. */
export async function listTree(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).replaceAll("\\", "/"));
}

/** Makes a FileSet of some files of a snapshot. */
export function snapshotFiles(id: string, snapshot: string, paths: readonly string[]): FileSet {
  return openOnce(
    id,
    async () => paths,
    (path) => join(snapshot, path),
  );
}

/** Notes which commit a branch or tag stands for. */
export async function writeRef(repoDir: string, revision: string, commit: string): Promise<void> {
  if (isCommit(revision)) return;
  const ref = join(repoDir, "refs", revision);
  await mkdir(dirname(ref), { recursive: true });
  await writeFile(ref, commit);
}

/** Makes a relative link, as Python does; a copy where the platform has no links. */
export async function linkTo(blob: string, pointer: string): Promise<void> {
  await mkdir(dirname(pointer), { recursive: true });
  await rm(pointer, { force: true });
  try {
    await symlink(relative(dirname(pointer), blob), pointer);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST" && (await lstat(pointer)).isSymbolicLink()) return;
    await copyFile(blob, pointer);
  }
}

/** Reads a text file; undefined if it is not there. */
export async function readIfThere(path: string): Promise<string | undefined> {
  return ifThere(() => readFile(path, "utf8"));
}

/** Gives a file's size in bytes; undefined if it is not there. */
export async function sizeOf(path: string): Promise<number | undefined> {
  return ifThere(async () => (await stat(path)).size);
}

async function ifThere<T>(action: () => Promise<T>): Promise<T | undefined> {
  try {
    return await action();
  } catch (error) {
    if (["ENOENT", "ENOTDIR"].includes((error as NodeJS.ErrnoException).code ?? "")) return undefined;
    throw error;
  }
}
