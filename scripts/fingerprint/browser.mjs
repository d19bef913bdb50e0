// @ts-check
/** A page of Chromium with a build of the package, cross-origin isolated, in which the cases run. */
import { readdir, readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { basename, extname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { entryOf } from "./entry.mjs";

const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const args = ["--no-sandbox", "--disable-gpu"];
const conditions = ["browser", "import", "default"];
const contentTypes = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript" };

/**
 * @param {string} root of the package.
 * @param {string} models a folder of checkpoint folders.
 */
export async function openPage(root, models) {
  /** @param {string} path */
  const urlOf = (path) => `/package/${relative(root, path)}`;
  const entry = urlOf(await entryOf(root, ".", conditions));
  const training = urlOf(await entryOf(root, "./training", conditions));
  const html = `<!doctype html>
    <link rel="icon" href="data:," />
    <script type="importmap">${JSON.stringify({ imports: await importMap(root, urlOf) })}</script>
    <script type="module">
      import { loadModel, countParameters } from "${entry}";
      import { createTrainer } from "${training}";
      import { casesOf } from "/fingerprint/cases.mjs";
      const save = async (trainer, names) => {
        const files = await trainer.save();
        return names.map((name) => files[name]);
      };
      const read = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());
      globalThis.run = async (folder, names, options) => {
        const files = await Promise.all(names.map(async (name) => [name, await read("/models/" + folder + "/" + name)]));
        const cases = [];
        const build = { loadModel, createTrainer, countParameters, save };
        for await (const entry of casesOf(build, Object.fromEntries(files), options)) cases.push(entry);
        return cases;
      };
    </script>`;
  const folders = { package: root, models, fingerprint: fileURLToPath(new URL(".", import.meta.url)) };
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? "/", "http://x"); // resolves every ".."
    const [, folder = "", path = ""] = /^\/(\w+)\/(.*)$/.exec(pathname) ?? [];
    const body = pathname === "/" ? Promise.resolve(html) : readFile(join(folders[folder] ?? "", path));
    const contentType = pathname === "/" ? "text/html" : contentTypes[extname(path)];
    const headers = {
      "Content-Type": contentType ?? "application/octet-stream",
      "Cross-Origin-Opener-Policy": "same-origin",
      "Cross-Origin-Embedder-Policy": "require-corp",
    };
    body.then(
      (bytes) => response.writeHead(200, headers).end(bytes),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());

  const browser = await chromium.launch({ executablePath, args });
  const page = await browser.newPage();
  page.setDefaultTimeout(0);
  page.on("pageerror", (error) => console.error(`in the page: ${error.message}`));
  page.on("response", (response) => response.ok() || console.error(`${response.url()}: ${response.status()}`));
  await page.goto(`http://127.0.0.1:${port}/`);
  return {
    runtime: `Chromium ${browser.version()}`,
    /** @param {string} path of a folder in `models`. @param {object} options */
    async *cases(path, options) {
      const request = [
        basename(path),
        await readdir(path),
        { ...options, dtypes: ["f32", "q8"], steps: { adamw: 10, muon: 10 } },
      ];
      yield* await page.evaluate((request) => /** @type {any} */ (globalThis).run(...request), request);
    },
    async close() {
      await browser.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/**
 * Where the package's dependencies lie, for those that it imports in a browser.
 * @param {string} root
 * @param {(path: string) => string} urlOf
 */
async function importMap(root, urlOf) {
  const { dependencies = {} } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  const imports = Object.keys(dependencies).map(async (name) => {
    const folder = join(root, "node_modules", name);
    return [name, urlOf(await entryOf(folder, ".", conditions))];
  });
  return Object.fromEntries(await Promise.all(imports));
}
