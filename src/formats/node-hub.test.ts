import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { openHfFolder } from "./hf-folder.ts";
import { openHubModel, type HubOptions, type HubProgress } from "./node-hub.ts";

const commit = "0123456789abcdef0123456789abcdef01234567";
const sha256 = (bytes: Uint8Array): string => createHash("sha256").update(bytes).digest("hex");
const gitSha1 = (bytes: Uint8Array): string =>
  createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");

const config = Buffer.from(
  JSON.stringify({
    model_type: "llama",
    hidden_size: 8,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    intermediate_size: 12,
    vocab_size: 20,
  }),
);
const big = Buffer.alloc(300_000, "weights ");

/** The Hub on one port and the store that it redirects large files to on another. */
let files: Record<string, Buffer>;
let token: string | undefined; // required, if set
let requests: { url: string; range: string | undefined; authorization: string | undefined }[];
/** The number of coming answers of the store that end after `breakAfter` bytes. */
let breaks: number;
let breakAfter: number;
let hasRanges: boolean;
let corrupt: boolean;
let hub: Server;
let store: Server;
let cacheDir: string;

const portOf = (server: Server): number => (server.address() as AddressInfo).port;
const isLarge = (path: string): boolean => /\.(safetensors|bin|gguf)$/.test(path);

function note(request: IncomingMessage): string {
  const { range, authorization } = request.headers;
  requests.push({ url: request.url ?? "", range, authorization });
  return new URL(request.url ?? "", "http://x").pathname;
}

function answerAsHub(request: IncomingMessage, response: ServerResponse): void {
  const path = note(request);
  const json = (value: unknown): unknown =>
    response.setHeader("content-type", "application/json").end(JSON.stringify(value));
  if (token !== undefined && request.headers.authorization !== `Bearer ${token}`) {
    response.writeHead(request.headers.authorization === undefined ? 401 : 403).end();
  } else if (["main", "v1.0"].some((revision) => path === `/api/models/org/tiny/revision/${revision}`)) {
    json({ _id: "1", id: "org/tiny", sha: commit });
  } else if (path === `/api/models/org/tiny/tree/${commit}`) {
    json(
      Object.entries(files).map(([path, bytes]) => ({
        type: "file",
        path,
        size: bytes.length,
        oid: gitSha1(bytes),
        ...(isLarge(path) && { lfs: { oid: sha256(bytes), size: bytes.length, pointerSize: 130 } }),
      })),
    );
  } else if (path.startsWith(`/org/tiny/resolve/${commit}/`)) {
    const file = path.slice(`/org/tiny/resolve/${commit}/`.length);
    if (isLarge(file)) response.writeHead(302, { location: `http://localhost:${portOf(store)}/${file}` }).end();
    else response.end(files[file]);
  } else {
    response.writeHead(404).end();
  }
}

function answerAsStore(request: IncomingMessage, response: ServerResponse): void {
  const bytes = Buffer.from(files[note(request).slice(1)] ?? []);
  if (corrupt) bytes.fill("x", 0, 1);
  const from = hasRanges ? Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0) : 0;
  const headers = { "content-length": bytes.length - from };
  if (from > 0) {
    response.writeHead(206, { ...headers, "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` });
  } else {
    response.writeHead(200, headers);
  }
  if (breaks > 0) {
    breaks--;
    response.write(bytes.subarray(from, from + breakAfter), () => setTimeout(() => response.destroy(), 20));
  } else {
    response.end(bytes.subarray(from));
  }
}

beforeEach(async () => {
  files = { "config.json": config, "model.safetensors": big, "README.md": Buffer.from("hello") };
  token = undefined;
  requests = [];
  breaks = 0;
  breakAfter = 100_000;
  hasRanges = true;
  corrupt = false;
  hub = createServer(answerAsHub).listen(0);
  store = createServer(answerAsStore).listen(0);
  cacheDir = await mkdtemp(join(tmpdir(), "mobilellm-hub-"));
  for (const name of ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_ENDPOINT"]) vi.stubEnv(name, "");
  vi.stubEnv("HF_TOKEN_PATH", join(cacheDir, "token"));
});

afterEach(async () => {
  vi.unstubAllEnvs();
  for (const server of [hub, store]) {
    server.closeAllConnections();
    server.close();
  }
  await rm(cacheDir, { recursive: true });
});

const endpoint = (): string => `http://127.0.0.1:${portOf(hub)}`;
const repo = (...path: string[]): string => join(cacheDir, "models--org--tiny", ...path);
const partial = (): string => repo("blobs", `${sha256(big)}.incomplete`);

/** Opens, reads every file, closes; a hash for each. */
async function fetchAll(id = "org/tiny", options: HubOptions = {}): Promise<Record<string, string>> {
  const set = await openHubModel(id, { endpoint: endpoint(), cacheDir, ...options });
  const hashes: Record<string, string> = {};
  for (const path of await set.list()) {
    const source = await set.open(path);
    const bytes = new Uint8Array(source.size);
    await source.read(0, bytes);
    hashes[path] = sha256(bytes);
  }
  await set.close();
  return hashes;
}

/** The message with what differs from run to run replaced. */
async function messageOf(promise: Promise<unknown>): Promise<string> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!(error instanceof Error)) return "no error";
  return `${error.name}: ${error.message}`
    .replaceAll(endpoint(), "http://hub")
    .replaceAll(cacheDir, "CACHE")
    .replaceAll(String(portOf(hub)), "PORT");
}

describe("openHubModel", () => {
  test("downloads what is needed, and nothing more, into the cache that Python reads", async () => {
    expect(await fetchAll()).toEqual({ "config.json": sha256(config), "model.safetensors": sha256(big) });
    expect(await readFile(repo("refs", "main"), "utf8")).toBe(commit);
    expect((await readdir(repo("blobs"))).sort()).toEqual([gitSha1(config), sha256(big)].sort());
    expect(await readlink(repo("snapshots", commit, "model.safetensors"))).toBe(`../../blobs/${sha256(big)}`);
  });

  test("downloads nothing twice", async () => {
    await fetchAll();
    requests = [];
    expect(await fetchAll()).toEqual({ "config.json": sha256(config), "model.safetensors": sha256(big) });
    expect(requests.filter(({ url }) => !url.startsWith("/api"))).toEqual([]);
  });

  test("goes on within one run where the connection broke off", async () => {
    breaks = 2;
    expect((await fetchAll())["model.safetensors"]).toBe(sha256(big));
    const ranges = requests.filter(({ url }) => url === "/model.safetensors").map(({ range }) => range);
    expect(ranges).toEqual([undefined, expect.stringMatching(/^bytes=\d+-$/), expect.stringMatching(/^bytes=\d+-$/)]);
  });

  test("goes on in the next run after the connection kept breaking off", async () => {
    breaks = 4;
    breakAfter = 50_000;
    const message = await messageOf(fetchAll());
    // What arrived just before a break-off may be lost with it: fetch drops what nobody has read yet.
    const [position] = /\d+(?= of)/.exec(message)!;
    expect(Number(position)).toBeGreaterThan(0);
    expect(message).toBe(
      `HubError: model.safetensors: the connection broke off 4 times, last at ${position} of 300000 bytes (other side closed). Run it again to go on from there.`,
    );
    requests = [];
    expect((await fetchAll())["model.safetensors"]).toBe(sha256(big));
    expect(requests.find(({ url }) => url === "/model.safetensors")!.range).toBe(`bytes=${position}-`);
    expect(await readdir(repo("blobs"))).toHaveLength(2);
  });

  test("begins anew where the server has no ranges or the partial file is too long", async () => {
    hasRanges = false;
    await mkdir(repo("blobs"), { recursive: true });
    await writeFile(partial(), big.subarray(0, 1000));
    expect((await fetchAll())["model.safetensors"]).toBe(sha256(big));
    await rm(repo(), { recursive: true });
    await mkdir(repo("blobs"), { recursive: true });
    await writeFile(partial(), Buffer.alloc(big.length + 1));
    expect((await fetchAll())["model.safetensors"]).toBe(sha256(big));
  });

  test("keeps nothing whose hash is wrong", async () => {
    corrupt = true;
    expect(await messageOf(fetchAll())).toMatchInlineSnapshot(
      `"HubError: model.safetensors: hash 6b36a89d97ebf858f327bf6689fac1383cfe22e8b808c80a9574032dbde264b5 was required, got 18a7b3b6ece704ece4a985d4d6389b4dadb1c433cd8c00cbfa177b58bb99b858. The download was discarded; try again."`,
    );
    expect(await readdir(repo("blobs"))).toEqual([gitSha1(config)]);
    corrupt = false;
    expect((await fetchAll())["model.safetensors"]).toBe(sha256(big));
  });

  test("reports the progress of all files together", async () => {
    const seen: HubProgress[] = [];
    await fetchAll("org/tiny", { onProgress: (progress) => seen.push(progress) });
    const totalBytes = config.length + big.length;
    expect(seen.at(-1)).toEqual({ loadedBytes: totalBytes, totalBytes, file: "model.safetensors" });
    expect(seen.map(({ loadedBytes }) => loadedBytes)).toEqual(
      seen.map(({ loadedBytes }) => loadedBytes).sort((a, b) => a - b),
    );
  });

  test("sends the token to the Hub and not to where it redirects", async () => {
    token = "hf_secret";
    await fetchAll("org/tiny", { token });
    for (const { url, authorization } of requests) {
      expect(authorization, url).toBe(url === "/model.safetensors" ? undefined : "Bearer hf_secret");
    }
  });

  test("takes the token from the environment or from the file that a login wrote", async () => {
    token = "hf_secret";
    await writeFile(join(cacheDir, "token"), "hf_secret\n");
    await fetchAll();
    vi.stubEnv("HF_TOKEN", "hf_wrong");
    await expect(fetchAll()).rejects.toThrow("status 403");
  });

  test("says what to do about gated, missing and unreachable models", async () => {
    token = "hf_secret";
    expect(await messageOf(fetchAll())).toMatchInlineSnapshot(
      `"HubError: org/tiny: the Hub refused access (status 401): no such model, or a gated or private one. Is the name right? If so, accept its terms at http://hub/org/tiny and pass a token: set HF_TOKEN, or run "hf auth login"."`,
    );
    expect(await messageOf(fetchAll("org/tiny", { token: "hf_wrong" }))).toMatchInlineSnapshot(
      `"HubError: org/tiny: the Hub refused access (status 403): no such model, or a gated or private one. Accept its terms at http://hub/org/tiny, and check that the token may read it."`,
    );
    token = undefined;
    expect(await messageOf(fetchAll("org/other"))).toMatchInlineSnapshot(
      `"HubError: org/other: there is no such model, revision or file on http://hub. Check the spelling at http://hub/org/other."`,
    );
    expect(await messageOf(fetchAll("org/tiny@v2"))).toMatchInlineSnapshot(
      `"HubError: org/tiny@v2: there is no such model, revision or file on http://hub. Check the spelling at http://hub/org/tiny."`,
    );
    const down = createServer().listen(0);
    const port = portOf(down);
    await new Promise((done) => down.close(done));
    const unreachable = messageOf(fetchAll("org/tiny", { endpoint: `http://127.0.0.1:${port}` }));
    expect((await unreachable).replaceAll(String(port), "PORT")).toMatchInlineSnapshot(
      `"HubError: org/tiny: http://127.0.0.1:PORT can't be reached (connect ECONNREFUSED 127.0.0.1:PORT). Is the network up?"`,
    );
    await fetchAll();
    const cached = messageOf(fetchAll("org/tiny", { endpoint: `http://127.0.0.1:${port}` }));
    expect(await cached).toContain("set HF_HUB_OFFLINE=1");
  });

  test("takes a tag, which offline mode then knows too", async () => {
    const all = { "config.json": sha256(config), "model.safetensors": sha256(big) };
    expect(await fetchAll("org/tiny@v1.0")).toEqual(all);
    expect(await readFile(repo("refs", "v1.0"), "utf8")).toBe(commit);
    expect(await fetchAll("org/tiny@v1.0", { offline: true })).toEqual(all);
    await expect(fetchAll("org/tiny", { offline: true })).rejects.toThrow("is not in the cache");
  });

  test("takes the endpoint and the cache's place from the environment", async () => {
    vi.stubEnv("HF_ENDPOINT", `${endpoint()}/`);
    vi.stubEnv("HF_HUB_CACHE", join(cacheDir, "elsewhere"));
    const set = await openHubModel("org/tiny");
    await set.close();
    expect(await readdir(join(cacheDir, "elsewhere"))).toEqual(["models--org--tiny"]);
  });

  test("reads from the cache alone when offline", async () => {
    expect(await messageOf(fetchAll("org/tiny", { offline: true }))).toMatchInlineSnapshot(
      `"HubError: org/tiny: is not in the cache (CACHE/models--org--tiny), and this is offline mode. Download it once while online."`,
    );
    await fetchAll();
    requests = [];
    vi.stubEnv("HF_HUB_OFFLINE", "1");
    expect(await fetchAll()).toEqual({ "config.json": sha256(config), "model.safetensors": sha256(big) });
    expect(Object.keys(await fetchAll(`org/tiny@${commit}`))).toHaveLength(2);
    expect(requests).toEqual([]);
  });

  test("fetches the shards that an index names", async () => {
    delete files["model.safetensors"];
    files["model.safetensors.index.json"] = Buffer.from(JSON.stringify({ weight_map: { a: "x.safetensors" } }));
    files["x.safetensors"] = big;
    files["y.safetensors"] = big;
    expect(Object.keys(await fetchAll())).toEqual(["config.json", "model.safetensors.index.json", "x.safetensors"]);
    files["model.safetensors.index.json"] = Buffer.from(JSON.stringify({ weight_map: { a: "../../../x" } }));
    expect(await messageOf(fetchAll())).toMatchInlineSnapshot(
      `"FormatError: org/tiny: the repository has no file ../../../x."`,
    );
  });

  test("asks for the name of a GGUF file, and fetches that one alone", async () => {
    files = { "a.gguf": big, "sub/b.gguf": big };
    expect(await messageOf(fetchAll())).toMatchInlineSnapshot(
      `"FormatError: org/tiny: this repository holds GGUF files; name one of them: org/tiny/a.gguf, org/tiny/sub/b.gguf."`,
    );
    expect(Object.keys(await fetchAll("org/tiny/sub/b.gguf"))).toEqual(["sub/b.gguf"]);
    expect(Object.keys(await fetchAll("org/tiny/sub/b.gguf@main", { offline: true }))).toEqual(["sub/b.gguf"]);
    expect(await messageOf(fetchAll("org/tiny/c.gguf"))).toMatchInlineSnapshot(
      `"FormatError: org/tiny/c.gguf: the repository has no file c.gguf."`,
    );
  });

  test("ignores paths and hashes that lead out of the cache", async () => {
    files = { ...files, "../../evil": big, "/abs.json": big };
    expect(Object.keys(await fetchAll())).toEqual(["config.json", "model.safetensors"]);
    for (const id of ["org", "../tiny", "org/tiny@../../x", "org/..", "org/tiny/../x.gguf"]) {
      await expect(openHubModel(id, { cacheDir }), id).rejects.toBeInstanceOf(RangeError);
    }
    expect(await messageOf(openHubModel("a b", { cacheDir }))).toMatchInlineSnapshot(
      `"RangeError: model: "org/name", "org/name@revision" or "org/name/file.gguf" was required, got "a b"."`,
    );
  });

  test("stops when told, and goes on later", async () => {
    const controller = new AbortController();
    const onProgress = ({ file }: HubProgress): void => {
      if (file === "model.safetensors") controller.abort(new Error("enough"));
    };
    await expect(fetchAll("org/tiny", { signal: controller.signal, onProgress })).rejects.toThrow("enough");
    expect((await fetchAll())["model.safetensors"]).toBe(sha256(big));
  });

  test("gives openHfFolder a model that it opens", async () => {
    const fixture = "test/fixtures/checkpoints/safetensors";
    for (const path of ["config.json", "model.safetensors"]) files[path] = await readFile(join(fixture, path));
    const checkpoint = await openHfFolder(await openHubModel("org/tiny", { endpoint: endpoint(), cacheDir }));
    expect(checkpoint.name).toBe("org/tiny");
    expect(checkpoint.tensors.size).toBe(11);
    await checkpoint.close();
  });
});
