/**
 * Models from the Hugging Face Hub, kept in the cache that Python's huggingface_hub uses, so that each finds what the other
 * fetched.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { FormatError } from "../errors.ts";
import { type FileSet, shardFiles } from "./hf-folder.ts";
import {
  cachedSnapshot,
  type HubId,
  linkTo,
  listTree,
  parseHubId,
  sizeOf,
  snapshotFiles,
  writeRef,
} from "./node-hub-cache.ts";
import {
  type Client,
  createClient,
  downloadBlob,
  HubError,
  type HubOptions,
  type HubProgress,
  type RemoteFile,
} from "./node-hub-download.ts";
import { parseJsonObject } from "./json.ts";

export { type HubOptions, type HubProgress, hubSchema } from "./node-hub-download.ts";

const alwaysWanted = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer.model",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
];
/** Where weights may lie, the best first, as openHfFolder reads them. */
const weightFiles = [
  "model.safetensors",
  "model.safetensors.index.json",
  "pytorch_model.bin",
  "pytorch_model.bin.index.json",
];

/**
 * Finds a model in the cache or downloads what is needed of it: config, tokenizer, and weights as safetensors, else .bin.
 * @param id `org/name`, `org/name@revision`, or, for one GGUF file, `org/name/file.gguf` (`@revision`).
 * @throws {HubError} if the Hub refuses or can't be reached. Calling again goes on where it broke off.
 */
export async function openHubModel(id: string, options: HubOptions = {}): Promise<FileSet> {
  const model = parseHubId(id);
  const hub = await import("@huggingface/hub");
  const cacheDir = options.cacheDir ?? hub.getHFHubCachePath();
  const repoDir = join(cacheDir, hub.getRepoFolderName({ type: "model", name: model.name }));
  const isOffline = options.offline ?? isSet(process.env["HF_HUB_OFFLINE"]);
  return isOffline ? openCached(id, model, repoDir) : downloadModel(id, model, repoDir, options);
}

/** Whether `text` has the form of a Hub id; it may be a path all the same. */
export function isHubId(text: string): boolean {
  try {
    parseHubId(text);
    return true;
  } catch {
    return false;
  }
}

const isSet = (value: string | undefined): boolean => /^(1|true|yes|on)$/i.test(value ?? "");

/** Revisions of a data set: what its owner put there, and what the Hub made of it. */
const datasetRevisions = ["main", "refs/convert/parquet"];

/**
 * Finds files of a data set in the cache, or downloads them.
 * @param name `org/name`.
 * @param choose which paths are wanted; none if the repository is laid out in another way.
 * @throws {HubError} if the Hub refuses, can't be reached, or has no such files.
 */
export async function openHubDataset(
  name: string,
  choose: (paths: readonly string[]) => readonly string[],
  options: HubOptions = {},
): Promise<FileSet> {
  const hub = await import("@huggingface/hub");
  const cacheDir = options.cacheDir ?? hub.getHFHubCachePath();
  const repoDir = join(cacheDir, hub.getRepoFolderName({ type: "dataset", name }));
  if (options.offline ?? isSet(process.env["HF_HUB_OFFLINE"])) {
    for (const revision of datasetRevisions) {
      const snapshot = await cachedSnapshot(revision, repoDir);
      const wanted = snapshot === undefined ? [] : choose(await listTree(snapshot));
      if (snapshot !== undefined && wanted.length > 0) return snapshotFiles(name, snapshot, wanted);
    }
    throw notCached(name, repoDir);
  }
  const client = await createClient(name, options, "dataset");
  for (const revision of datasetRevisions) {
    const { commit, files } = await client.listRepo({ name, revision, file: undefined });
    const paths = choose(files.map(({ path }) => path));
    if (paths.length === 0) continue;
    const wanted = files.filter(({ path }) => paths.includes(path));
    const progress = createProgress(options.onProgress);
    progress.expect(wanted);
    for (const file of wanted) await fetchFile(client, name, commit, file, repoDir, progress.of(file.path));
    await writeRef(repoDir, revision, commit);
    return snapshotFiles(name, join(repoDir, "snapshots", commit), paths);
  }
  throw new HubError(`${name}: the wanted files are in neither ${datasetRevisions.join(" nor ")} of this data set.`);
}

function notCached(id: string, repoDir: string): HubError {
  return new HubError(
    `${id}: is not in the cache (${repoDir}), and this is offline mode. Download it once while online.`,
  );
}

async function openCached(id: string, model: HubId, repoDir: string): Promise<FileSet> {
  const snapshot = await cachedSnapshot(model.revision, repoDir);
  const files = snapshot === undefined ? [] : await listTree(snapshot);
  const wanted = model.file === undefined ? files : files.filter((path) => path === model.file);
  if (snapshot === undefined || wanted.length === 0) {
    throw notCached(id, repoDir);
  }
  return snapshotFiles(id, snapshot, wanted);
}

async function downloadModel(id: string, model: HubId, repoDir: string, options: HubOptions): Promise<FileSet> {
  const client = await createClient(id, options);
  const { commit, files } = await client.listRepo(model).catch(async (error: unknown) => {
    if (error instanceof HubError && error.cause !== undefined && (await cachedSnapshot(model.revision, repoDir))) {
      throw new HubError(`${error.message} The cache holds this model: set HF_HUB_OFFLINE=1 to use it.`, {
        cause: error,
      });
    }
    throw error;
  });
  const snapshot = join(repoDir, "snapshots", commit);
  const fetched: string[] = [];
  const progress = createProgress(options.onProgress);

  const fetchFiles = async (wanted: readonly RemoteFile[]): Promise<void> => {
    progress.expect(wanted);
    for (const file of wanted) {
      await fetchFile(client, model.name, commit, file, repoDir, progress.of(file.path));
      fetched.push(file.path);
    }
  };
  const wanted = chooseFiles(id, model, files);
  await fetchFiles(wanted);
  const index = wanted.find(({ path }) => path.endsWith(".index.json"));
  if (index !== undefined) {
    const json = parseJsonObject(await readFile(join(snapshot, index.path)), index.path);
    await fetchFiles(shardFiles(json, index.path).map((path) => findFile(id, path, files)));
  }

  await writeRef(repoDir, model.revision, commit);
  return snapshotFiles(id, snapshot, fetched);
}

function chooseFiles(id: string, model: HubId, files: readonly RemoteFile[]): readonly RemoteFile[] {
  if (model.file !== undefined) return [findFile(id, model.file, files)];
  const byPath = new Map(files.map((file) => [file.path, file]));
  const weights = weightFiles.find((path) => byPath.has(path));
  if (weights === undefined || !byPath.has("config.json")) {
    const ggufs = files.filter(({ path }) => path.endsWith(".gguf")).map(({ path }) => path);
    throw new FormatError(
      ggufs.length > 0
        ? `${id}: this repository holds GGUF files; name one of them: ${ggufs
            .slice(0, 8)
            .map((path) => `${model.name}/${path}`)
            .join(", ")}.`
        : `${id}: config.json and weights (${weightFiles.join(", ")}) were required, but the repository lacks them.`,
    );
  }
  return [...alwaysWanted, weights].flatMap((path) => byPath.get(path) ?? []);
}

function findFile(id: string, path: string, files: readonly RemoteFile[]): RemoteFile {
  const file = files.find((candidate) => candidate.path === path);
  if (file === undefined) throw new FormatError(`${id}: the repository has no file ${path}.`);
  return file;
}

type Progress = {
  /** Adds to the total. */
  expect(files: readonly RemoteFile[]): void;
  /** Called with a file's bytes so far. */
  of(path: string): (fileBytes: number) => void;
};

function createProgress(report: ((progress: HubProgress) => void) | undefined): Progress {
  let totalBytes = 0;
  const loaded = new Map<string, number>();
  return {
    expect: (files) => {
      for (const { size } of files) totalBytes += size;
    },
    of: (path) => (fileBytes) => {
      loaded.set(path, fileBytes);
      const loadedBytes = [...loaded.values()].reduce((sum, bytes) => sum + bytes, 0);
      report?.({ loadedBytes, totalBytes, file: path });
    },
  };
}

/** Puts one file into the cache, unless it is there. */
async function fetchFile(
  client: Client,
  name: string,
  commit: string,
  file: RemoteFile,
  repoDir: string,
  onBytes: (fileBytes: number) => void,
): Promise<void> {
  const pointer = join(repoDir, "snapshots", commit, file.path);
  const blob = join(repoDir, "blobs", file.hash);
  if ((await sizeOf(pointer)) !== file.size) {
    if ((await sizeOf(blob)) !== file.size) {
      await downloadBlob(client, client.fileUrl(name, commit, file.path), file, blob, onBytes);
    }
    await linkTo(blob, pointer);
  }
  onBytes(file.size);
}
