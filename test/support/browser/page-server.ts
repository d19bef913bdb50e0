/**
 * A static server with one page twice: below /isolated/ every answer carries the headers that let a page share memory,
 * below /plain/ none does.
 */
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { extname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const isolation = { "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp" };
const contentTypes: Readonly<Record<string, string>> = {
  ".html": "text/html",
  ".js": "text/javascript",
  ".mjs": "text/javascript",
};

async function readJson<T>(path: string): Promise<T> {
  return JSON.parse(await readFile(join(root, path), "utf8")) as T;
}

/** The package as a page uses it without a bundler: its files as they are, and an import map for what they import. */
async function pageHtml(): Promise<string> {
  const { dependencies } = await readJson<{ dependencies: Record<string, string> }>("package.json");
  const imports = Object.fromEntries(
    await Promise.all(
      Object.keys(dependencies).map(async (name) => {
        const folder = join("node_modules", name);
        const { module, main } = await readJson<{ module?: string; main?: string }>(join(folder, "package.json"));
        return [name, `./${join(folder, module ?? main ?? "index.js")}`];
      }),
    ),
  );
  return `<!doctype html>
    <link rel="icon" href="data:," />
    <script type="importmap">${JSON.stringify({ imports })}</script>
    <script type="module">
      import { loadModel } from "./dist/entries/web/index.js";
      import * as training from "./dist/entries/web/training.js";
      const fetchBytes = async (name) => new Uint8Array(await (await fetch(name)).arrayBuffer());
      const fetchCheckpoint = async () => ({
        "config.json": await fetchBytes("config.json"),
        "model.safetensors": await fetchBytes("model.safetensors"),
      });
      Object.assign(globalThis, { loadModel, fetchCheckpoint, training });
    </script>`;
}

export type PageServer = { readonly origin: string; close(): Promise<void> };

/** @param files served below both prefixes, besides dist/ and node_modules/. */
export async function startPageServer(files: Readonly<Record<string, Uint8Array>>): Promise<PageServer> {
  const html = new TextEncoder().encode(await pageHtml());
  const read = async (path: string): Promise<Uint8Array | undefined> => {
    if (path === "index.html") return html;
    // URL has resolved every "..", so what is left lies below the two folders.
    if (path.startsWith("dist/") || path.startsWith("node_modules/")) {
      return readFile(join(root, path)).catch(() => undefined);
    }
    return files[path];
  };
  const server = createServer((request, response) => {
    const [, prefix, path = ""] = /^\/(isolated|plain)\/(.*)$/.exec(new URL(request.url!, "http://x").pathname) ?? [];
    read(path).then(
      (body) => {
        const headers = { "Content-Type": contentTypes[extname(path)] ?? "application/octet-stream" };
        response.writeHead(body ? 200 : 404, prefix === "isolated" ? { ...headers, ...isolation } : headers);
        response.end(body);
      },
      (error: unknown) => response.destroy(error as Error),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}
