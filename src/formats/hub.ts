/**
 * Models from the Hugging Face Hub, kept in the cache that Python's huggingface_hub uses, so that each finds what the other
 * fetched:  models--org--name/{ blobs/<hash>, snapshots/<commit>/<path> → ../../blobs/<hash>, refs/<branch> }.
 *
 * Listing is @huggingface/hub's. Downloading is ours, because the library's begins anew after a break-off, reports no
 * progress and checks no hash.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import {
  copyFile,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { FormatError } from "../errors.ts";
import { shardFiles, type FileSet } from "./hf-folder.ts";
import { parseJsonObject } from "./json.ts";
import { openOnce } from "./node-files.ts";

export type HubProgress = {
  /** Of all files together, those already in the cache included. */
  readonly loadedBytes: number;
  readonly totalBytes: number;
  /** The file being downloaded. */
  readonly file: string;
};

export type HubOptions = {
  /** For gated and private models. Default: HF_TOKEN, HUGGING_FACE_HUB_TOKEN, or the file that `hf auth login` writes. */
  readonly token?: string | undefined;
  /** Default: HF_ENDPOINT, or https://huggingface.co. */
  readonly endpoint?: string | undefined;
  /** Default: HF_HUB_CACHE, HF_HOME/hub, or ~/.cache/huggingface/hub. */
  readonly cacheDir?: string | undefined;
  /** Use the cache and no network. Default: whether HF_HUB_OFFLINE is set. */
  readonly offline?: boolean | undefined;
  readonly onProgress?: ((progress: HubProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** For proxies and tests. */
  readonly fetch?: typeof fetch | undefined;
};

/** The Hub refused, or could not be reached. */
export class HubError extends Error {
  override readonly name = "HubError";
}

const alwaysWanted = [
  "config.json",
  "generation_config.json",
  "tokenizer.json",
  "tokenizer.model",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
];
/** In order of preference, as openHfFolder reads them. */
const weightFiles = [
  "model.safetensors",
  "model.safetensors.index.json",
  "pytorch_model.bin",
  "pytorch_model.bin.index.json",
];

/** Consecutive failures without progress. The waits between them are 0.25, 0.5 and 1 s. */
const MAX_ATTEMPTS = 4;
const FIRST_WAIT_MS = 250;
/** A connection that broke off after at least this much counts as progress. */
const PROGRESS_BYTES = 1024 * 1024;
/** Callbacks per file are limited by this step. */
const REPORT_BYTES = 256 * 1024;

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

type HubId = { readonly name: string; readonly revision: string; readonly file: string | undefined };

/** Whether `text` has the form of a Hub id; it may be a path all the same. */
export function isHubId(text: string): boolean {
  try {
    parseHubId(text);
    return true;
  } catch {
    return false;
  }
}

function parseHubId(id: string): HubId {
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
function leadsOut(path: string): boolean {
  return path.startsWith("/") || /[\\:\0]|(^|\/)\.\.?(\/|$)|\/\/|\/$/.test(path);
}

const isCommit = (revision: string): boolean => /^[0-9a-f]{40}$/.test(revision);
const isSet = (value: string | undefined): boolean => /^(1|true|yes|on)$/i.test(value ?? "");

async function openCached(id: string, model: HubId, repoDir: string): Promise<FileSet> {
  const snapshot = await cachedSnapshot(model.revision, repoDir);
  const files = snapshot === undefined ? [] : await listTree(snapshot);
  const wanted = model.file === undefined ? files : files.filter((path) => path === model.file);
  if (snapshot === undefined || wanted.length === 0) {
    throw new HubError(
      `${id}: is not in the cache (${repoDir}), and this is offline mode. Download it once while online.`,
    );
  }
  return snapshotFiles(id, snapshot, wanted);
}

async function cachedSnapshot(revision: string, repoDir: string): Promise<string | undefined> {
  const commit = isCommit(revision) ? revision : (await readIfThere(join(repoDir, "refs", revision)))?.trim();
  if (commit === undefined || !isCommit(commit)) return undefined;
  const snapshot = join(repoDir, "snapshots", commit);
  return (await sizeOf(snapshot)) === undefined ? undefined : snapshot;
}

/** Files below a folder, with `/`. */
async function listTree(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).replaceAll("\\", "/"));
}

function snapshotFiles(id: string, snapshot: string, paths: readonly string[]): FileSet {
  return openOnce(
    id,
    async () => paths,
    (path) => join(snapshot, path),
  );
}

/** A file of the repository at one commit. */
type RemoteFile = {
  readonly path: string;
  readonly size: number;
  /** The name of its blob: sha256 of an LFS file, git's sha1 of any other. */
  readonly hash: string;
};

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

  if (!isCommit(model.revision)) {
    const ref = join(repoDir, "refs", model.revision);
    await mkdir(dirname(ref), { recursive: true });
    await writeFile(ref, commit);
  }
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
    await mkdir(dirname(blob), { recursive: true });
    if ((await sizeOf(blob)) !== file.size) {
      await downloadBlob(client, client.fileUrl(name, commit, file.path), file, blob, onBytes);
    }
    await mkdir(dirname(pointer), { recursive: true });
    await linkTo(blob, pointer);
  }
  onBytes(file.size);
}

/** Downloads into `<blob>.incomplete`, going on where an earlier attempt, of this run or another, ended. */
async function downloadBlob(
  client: Client,
  url: string,
  file: RemoteFile,
  blob: string,
  onBytes: (fileBytes: number) => void,
): Promise<void> {
  const partial = `${blob}.incomplete`;
  for (let failures = 0; ;) {
    let have = (await sizeOf(partial)) ?? 0;
    if (have > file.size) {
      await rm(partial);
      have = 0;
    }
    if (have === file.size && have > 0) break;
    try {
      await appendBody(await client.getFrom(url, have), partial, have, file, onBytes, client.signal);
      break;
    } catch (cause) {
      client.signal?.throwIfAborted();
      if (!(cause instanceof BrokenOff)) throw cause;
      const now = (await sizeOf(partial)) ?? 0;
      failures = now - have >= PROGRESS_BYTES ? 1 : failures + 1;
      if (failures >= MAX_ATTEMPTS) {
        throw new HubError(
          `${file.path}: the connection broke off ${MAX_ATTEMPTS} times, last at ${now} of ${file.size} bytes (${cause.message}). Run it again to go on from there.`,
          { cause },
        );
      }
      await sleep(FIRST_WAIT_MS * 2 ** (failures - 1), undefined, { signal: client.signal });
    }
  }
  await checkHash(partial, file, client.signal);
  await rename(partial, blob);
}

/** The server or the connection gave up; another attempt may succeed. */
class BrokenOff extends Error {}

async function appendBody(
  response: Response,
  partial: string,
  have: number,
  file: RemoteFile,
  onBytes: (fileBytes: number) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  // A server without ranges answers 200 and sends everything.
  const isResumed = response.status === 206;
  if (isResumed && !(response.headers.get("content-range") ?? "").startsWith(`bytes ${have}-`)) {
    await response.body?.cancel();
    throw new HubError(`${file.path}: bytes from ${have} on were asked for, got others. Is a proxy in between?`);
  }
  const handle = await open(partial, isResumed ? "a" : "w");
  let done = isResumed ? have : 0;
  let reported = -REPORT_BYTES;
  try {
    for await (const chunk of bodyOf(response)) {
      signal?.throwIfAborted();
      if (done + chunk.length > file.size) {
        // Not what was listed: nothing of it can be kept.
        await handle.truncate(0);
        throw new HubError(`${file.path}: ${file.size} bytes were listed, but more arrived. Try again.`);
      }
      for (let at = 0; at < chunk.length;) at += (await handle.write(chunk, at)).bytesWritten;
      done += chunk.length;
      if (done - reported >= REPORT_BYTES) {
        reported = done;
        onBytes(done);
      }
    }
  } finally {
    await handle.close();
  }
  if (done < file.size) throw new BrokenOff("the body ended early");
}

/** The chunks of a body; what the connection throws becomes BrokenOff, what the reader throws does not. */
async function* bodyOf(response: Response): AsyncGenerator<Uint8Array> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((cause: unknown) => {
        throw new BrokenOff(reasonOf(cause), { cause });
      });
      if (done) return;
      yield value;
    }
  } finally {
    // After an early exit the rest is not wanted; the connection may already be gone.
    await reader.cancel().catch(() => undefined);
  }
}

/** The blob's name is its hash: sha256 of the bytes (LFS), or git's sha1 of "blob <size>\0" and the bytes. */
async function checkHash(partial: string, file: RemoteFile, signal: AbortSignal | undefined): Promise<void> {
  const isLfs = file.hash.length === 64;
  const hash = createHash(isLfs ? "sha256" : "sha1");
  if (!isLfs) hash.update(`blob ${file.size}\0`);
  for await (const chunk of createReadStream(partial, { highWaterMark: 1024 * 1024, signal })) {
    hash.update(chunk as Uint8Array);
  }
  const actual = hash.digest("hex");
  if (actual === file.hash) return;
  await rm(partial);
  throw new HubError(
    `${file.path}: hash ${file.hash} was required, got ${actual}. The download was discarded; try again.`,
  );
}

/** A relative link, as Python makes it; a copy where the platform has no links. */
async function linkTo(blob: string, pointer: string): Promise<void> {
  await rm(pointer, { force: true });
  try {
    await symlink(relative(dirname(pointer), blob), pointer);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST" && (await lstat(pointer)).isSymbolicLink()) return;
    await copyFile(blob, pointer);
  }
}

type Client = {
  readonly signal: AbortSignal | undefined;
  listRepo(model: HubId): Promise<{ commit: string; files: readonly RemoteFile[] }>;
  fileUrl(name: string, commit: string, path: string): string;
  /** The response with the bytes from `offset` on, or with all of them. */
  getFrom(url: string, offset: number): Promise<Response>;
};

async function createClient(id: string, options: HubOptions): Promise<Client> {
  const hub = await import("@huggingface/hub");
  const endpoint = (options.endpoint ?? (process.env["HF_ENDPOINT"] || hub.HUB_URL)).replace(/\/+$/, "");
  if (!URL.canParse(endpoint)) {
    throw new RangeError(`endpoint: a URL such as ${hub.HUB_URL} was required, got ${JSON.stringify(endpoint)}.`);
  }
  const token = options.token ?? (await defaultToken());
  const doFetch = options.fetch ?? fetch;
  const { signal } = options;

  // Also what the library fetches with: the token goes to the endpoint and, as links and redirects may, nowhere else.
  const authorizedFetch: typeof fetch = async (input, init) => {
    const url = new URL(input instanceof Request ? input.url : input);
    const headers = new Headers(init?.headers);
    if (token !== undefined && url.origin === new URL(endpoint).origin) headers.set("authorization", `Bearer ${token}`);
    try {
      return await doFetch(url, { ...init, headers, ...(signal && { signal }) });
    } catch (cause) {
      signal?.throwIfAborted();
      throw new BrokenOff(reasonOf(cause), { cause });
    }
  };

  const listRepo: Client["listRepo"] = async ({ name, revision }) => {
    const { sha } = await hub.modelInfo({
      name,
      revision,
      additionalFields: ["sha"],
      hubUrl: endpoint,
      fetch: authorizedFetch,
    });
    if (!isCommit(sha)) throw new FormatError(`${id}: the Hub must name a commit, got ${JSON.stringify(sha)}.`);
    const files: RemoteFile[] = [];
    const entries = hub.listFiles({
      repo: { type: "model", name },
      revision: sha,
      recursive: true,
      hubUrl: endpoint,
      fetch: authorizedFetch,
    });
    for await (const { type, path, size, oid, lfs } of entries) {
      const hash = lfs?.oid ?? oid;
      // Names of the Hub's become paths on this disk.
      if (type !== "file" || leadsOut(path) || !/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash ?? "")) continue;
      files.push({ path, size: lfs?.size ?? size, hash: hash! });
    }
    return { commit: sha, files };
  };

  return {
    signal,
    listRepo: async (model) => {
      try {
        return await listRepo(model);
      } catch (cause) {
        if (cause instanceof hub.HubApiError) throw refusal(id, endpoint, cause.statusCode, token !== undefined);
        if (cause instanceof BrokenOff) {
          throw new HubError(`${id}: ${endpoint} can't be reached (${cause.message}). Is the network up?`, { cause });
        }
        throw cause;
      }
    },
    fileUrl: (name, commit, path) =>
      `${endpoint}/${name}/resolve/${commit}/${path.split("/").map(encodeURIComponent).join("/")}`,
    getFrom: async (url, offset) => {
      const response = await authorizedFetch(url, {
        // Compressed bodies can't be resumed, and their lengths mean something else.
        headers: { "accept-encoding": "identity", ...(offset > 0 && { range: `bytes=${offset}-` }) },
      });
      if (response.ok) return response;
      await response.body?.cancel();
      if (response.status >= 500 || response.status === 429) throw new BrokenOff(`status ${response.status}`);
      throw refusal(id, endpoint, response.status, token !== undefined);
    },
  };
}

function refusal(id: string, endpoint: string, status: number, hasToken: boolean): HubError {
  const page = `${endpoint}/${/^[^/]+\/[^/@]+/.exec(id)?.[0] ?? id}`;
  if (status === 401 || status === 403) {
    const fix = hasToken
      ? `Accept its terms at ${page}, and check that the token may read it.`
      : `Is the name right? If so, accept its terms at ${page} and pass a token: set HF_TOKEN, or run "hf auth login".`;
    return new HubError(
      `${id}: the Hub refused access (status ${status}): no such model, or a gated or private one. ${fix}`,
    );
  }
  if (status === 404) {
    return new HubError(
      `${id}: there is no such model, revision or file on ${endpoint}. Check the spelling at ${page}.`,
    );
  }
  return new HubError(`${id}: ${endpoint} answered with status ${status}. Try again later.`);
}

async function defaultToken(): Promise<string | undefined> {
  const fromEnvironment = process.env["HF_TOKEN"] || process.env["HUGGING_FACE_HUB_TOKEN"];
  if (fromEnvironment) return fromEnvironment.trim();
  const cacheHome = process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache");
  const home = process.env["HF_HOME"] ?? join(cacheHome, "huggingface");
  const text = await readIfThere(process.env["HF_TOKEN_PATH"] ?? join(home, "token"));
  return text?.trim() || undefined;
}

/** fetch hides the reason ("fetch failed") in its cause. */
function reasonOf(error: unknown): string {
  let deepest = error;
  while (deepest instanceof Error && deepest.cause instanceof Error) deepest = deepest.cause;
  if (!(deepest instanceof Error)) return String(deepest);
  return deepest.message || ((deepest as NodeJS.ErrnoException).code ?? deepest.name);
}

async function readIfThere(path: string): Promise<string | undefined> {
  return ifThere(() => readFile(path, "utf8"));
}

async function sizeOf(path: string): Promise<number | undefined> {
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
