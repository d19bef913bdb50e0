/**
 * How the Hub's cache lies on disk, as Python's huggingface_hub has it:
 * models--org--name/{ blobs/<hash>, snapshots/<commit>/<path> → ../../blobs/<hash>, refs/<branch> }.
 */
import { copyFile, lstat, mkdir, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import type { FileSet } from "./hf-folder.ts";
import { openOnce } from "./node-files.ts";

export type HubId = { readonly name: string; readonly revision: string; readonly file: string | undefined };

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

/** Paths and revisions become paths in the cache. */
export function leadsOut(path: string): boolean {
  return path.startsWith("/") || /[\\:\0]|(^|\/)\.\.?(\/|$)|\/\/|\/$/.test(path);
}

export const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);

export async function cachedSnapshot(revision: string, repoDir: string): Promise<string | undefined> {
  const commit = isCommit(revision) ? revision : (await readIfThere(join(repoDir, "refs", revision)))?.trim();
  if (commit === undefined || !isCommit(commit)) return undefined;
  const snapshot = join(repoDir, "snapshots", commit);
  return (await sizeOf(snapshot)) === undefined ? undefined : snapshot;
}

/** Files below a folder, with `/`. */
export async function listTree(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).replaceAll("\\", "/"));
}

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

/** A relative link, as Python makes it; a copy where the platform has no links. */
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

export async function readIfThere(path: string): Promise<string | undefined> {
  return ifThere(() => readFile(path, "utf8"));
}

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
