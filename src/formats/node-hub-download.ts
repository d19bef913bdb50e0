/**
 * Talks to the Hub. Listing is @huggingface/hub's. Downloading is ours, because the library's begins anew after a break-off,
 * reports no progress and checks no hash.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, rename, rm } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { FormatError } from "../errors.ts";
import * as o from "../options.ts";
import { type HubId, isCommit, leadsOut, readIfThere, sizeOf } from "./node-hub-cache.ts";

/** How far a download is. */
export type HubProgress = {
  /** Bytes of all files together, those already in the cache included. */
  readonly loadedBytes: number;
  readonly totalBytes: number;
  /** The file being downloaded. */
  readonly file: string;
};

/** How to reach the Hub, and where to keep what comes. */
export type HubOptions = {
  /** Lets in to gated and private models. Default: HF_TOKEN, HUGGING_FACE_HUB_TOKEN, or the file that `hf auth login` writes. */
  readonly token?: string | undefined;
  /** The Hub's address. Default: HF_ENDPOINT, or https://huggingface.co. */
  readonly endpoint?: string | undefined;
  /** The cache's folder. Default: HF_HUB_CACHE, HF_HOME/hub, or ~/.cache/huggingface/hub. */
  readonly cacheDir?: string | undefined;
  /** Use the cache and no network. Default: whether HF_HUB_OFFLINE is set. */
  readonly offline?: boolean | undefined;
  readonly onProgress?: ((progress: HubProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Takes the place of the platform's fetch, as proxies and tests need it. */
  readonly fetch?: typeof fetch | undefined;
};

export const hubSchema: o.Schema<HubOptions> = o.object({
  token: o.optional(o.text),
  endpoint: o.optional(o.text),
  cacheDir: o.optional(o.text),
  offline: o.optional(o.flag),
  onProgress: o.optional(o.callback()),
  signal: o.optional(o.signal),
  fetch: o.optional(o.callback()),
});

/** The Hub refused, or could not be reached. */
export class HubError extends Error {
  override readonly name = "HubError";
}

/** A file of the repository at one commit. */
export type RemoteFile = {
  readonly path: string;
  readonly size: number;
  /** The name of its blob: sha256 of an LFS file, git's sha1 of any other. */
  readonly hash: string;
};

/** So many failures in a row without progress end a download. The waits between them are 0.25, 0.5 and 1 s. */
const MAX_ATTEMPTS = 4;
const FIRST_WAIT_MS = 250;
/** A connection that broke off after at least this much counts as progress. */
const PROGRESS_BYTES = 1024 * 1024;
/** Callbacks per file are limited by this step. */
const REPORT_BYTES = 256 * 1024;

/** Downloads into `<blob>.incomplete`, going on where an earlier attempt, of this run or another, ended. */
export async function downloadBlob(
  client: Client,
  url: string,
  file: RemoteFile,
  blob: string,
  onBytes: (fileBytes: number) => void,
): Promise<void> {
  const partial = `${blob}.incomplete`;
  await mkdir(dirname(blob), { recursive: true });
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

/** What is asked of the Hub. */
export type Client = {
  readonly signal: AbortSignal | undefined;
  listRepo(model: HubId): Promise<{ commit: string; files: readonly RemoteFile[] }>;
  fileUrl(name: string, commit: string, path: string): string;
  /** The response with the bytes from `offset` on, or with all of them. */
  getFrom(url: string, offset: number): Promise<Response>;
};

/** Makes a client for one repository. @param type what `id` names. */
export async function createClient(
  id: string,
  options: HubOptions,
  type: "model" | "dataset" = "model",
): Promise<Client> {
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
    const query = { name, revision, hubUrl: endpoint, fetch: authorizedFetch };
    const { sha } =
      type === "model"
        ? await hub.modelInfo({ ...query, additionalFields: ["sha"] })
        : await hub.datasetInfo({ ...query, additionalFields: ["sha"] });
    if (!isCommit(sha)) throw new FormatError(`${id}: the Hub must name a commit, got ${JSON.stringify(sha)}.`);
    const files: RemoteFile[] = [];
    const entries = hub.listFiles({
      repo: { type, name },
      revision: sha,
      recursive: true,
      hubUrl: endpoint,
      fetch: authorizedFetch,
    });
    for await (const { type, path, size, oid, lfs } of entries) {
      const hash = lfs?.oid ?? oid ?? "";
      // Names of the Hub's become paths on this disk.
      if (type !== "file" || leadsOut(path) || !/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash)) continue;
      files.push({ path, size: lfs?.size ?? size, hash });
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
      `${endpoint}/${type === "model" ? "" : "datasets/"}${name}/resolve/${commit}/${path.split("/").map(encodeURIComponent).join("/")}`,
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
