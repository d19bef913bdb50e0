// @ts-check
/**
 * Hashes what a build of the package computes, so that two builds can be compared bit for bit:
 *
 *   node scripts/fingerprint.mjs [--package ROOT] [--threads 1,2] [--browser] [--json OUT] [--checkpoints PATH …]
 *   node scripts/fingerprint.mjs --compare A.json B.json
 *
 * ROOT: a built package (default: this one), found through its package.json's "exports". The models are this repository's
 * test/fixtures/models and, in Node, each PATH (a folder or a .gguf file). A case that another number of threads hashes
 * otherwise is an error. --browser asks Chromium (CHROMIUM: its path) for the same cases in fewer dtypes and with fewer steps;
 * its names are names of Node's. --compare exits with 1 if a hash differs or a name is missing; with --common, only names
 * that both have count. Between two engines it leaves out the cases that depend on theirs ("… f64", see cases.mjs).
 */
import { createHash } from "node:crypto";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { openPage } from "./fingerprint/browser.mjs";
import { casesOf } from "./fingerprint/cases.mjs";
import { entryOf } from "./fingerprint/entry.mjs";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    package: { type: "string", default: fileURLToPath(new URL("..", import.meta.url)) },
    checkpoints: { type: "string", multiple: true, default: [] },
    threads: { type: "string", default: "1,2" },
    browser: { type: "boolean", default: false },
    json: { type: "string" },
    compare: { type: "boolean", default: false },
    common: { type: "boolean", default: false },
  },
});

const models = fileURLToPath(new URL("../test/fixtures/models", import.meta.url));
/** The fixture that is run with every layer sharing. */
const SHARED = "layer-sharing";

if (values.compare) await compare(positionals, values.common);
else await fingerprint();

async function fingerprint() {
  const root = resolve(values.package);
  const threads = values.threads.split(",").map(Number);
  const entries = await readdir(models, { withFileTypes: true });
  const fixtures = entries.filter((entry) => entry.isDirectory()).map(({ name }) => join(models, name));
  /** @type {Map<string, string>} */
  const hashes = new Map();
  const clashes = [];

  /** @param {string} title @param {AsyncIterable<readonly [string, string]>} cases */
  const collect = async (title, cases) => {
    const start = performance.now();
    for await (const [name, hash] of cases) {
      const before = hashes.get(name);
      if (before !== undefined && before !== hash) clashes.push(`${name}: ${before}, with ${title} ${hash}`);
      hashes.set(name, before ?? hash);
    }
    console.error(`${title}: ${((performance.now() - start) / 1000).toFixed(1)} s`);
  };

  const place = values.browser ? await openPage(root, models) : await openNode(root);
  for (const path of [...fixtures, ...values.checkpoints, ...(values.browser ? [] : positionals)]) {
    const name = basename(path);
    const isFixture = fixtures.includes(path);
    const hasSharings = name === SHARED && isFixture;
    for (const count of threads) {
      const where = `wasm, ${name}`;
      await collect(
        `${where}, ${count} threads`,
        named(where, place.cases(path, { device: "wasm", threads: count, hasSharings })),
      );
    }
    if (!isFixture || values.browser) continue;
    const where = `reference, ${name}`;
    await collect(where, named(where, place.cases(path, { device: "reference", threads: 1, hasSharings })));
  }
  await place.close();

  if (clashes.length > 0) {
    console.error(`fingerprint: any number of threads must give the same bits, ${clashes.length} cases do not:`);
    for (const clash of clashes) console.error(`  ${clash}`);
    process.exitCode = 1;
    return;
  }
  const sorted = [...hashes].sort(([a], [b]) => (a < b ? -1 : 1));
  const lines = sorted.map(([name, hash]) => `${name}  ${hash}`);
  const portable = lines.filter((_, i) => isPortable(sorted[i]?.[0] ?? ""));
  if (values.json) {
    const totals = { portable: totalOf(portable), all: totalOf(lines) };
    const report = { runtime: place.runtime, totals, hashes: Object.fromEntries(sorted) };
    await writeFile(values.json, `${JSON.stringify(report, undefined, 1)}\n`);
  }
  for (const line of lines) console.log(line);
  console.log(`${portable.length} cases that no engine changes  ${totalOf(portable)}`);
  console.log(`${lines.length} cases on ${place.runtime}  ${totalOf(lines)}`);
}

/** @param {string} name of a case. */
function isPortable(name) {
  return !name.endsWith("f64");
}

/** @param {readonly string[]} lines */
function totalOf(lines) {
  return createHash("sha256").update(lines.join("\n")).digest("hex");
}

/** @param {string} root */
async function openNode(root) {
  /** @param {string} name */
  const load = async (name) => import(pathToFileURL(await entryOf(root, name, ["node", "import", "default"])).href);
  const { loadModel, countParameters } = await load(".");
  const { createTrainer } = await load("./training");
  const folder = await mkdtemp(join(tmpdir(), "mobilellm-fingerprint-"));
  const build = {
    loadModel,
    createTrainer,
    countParameters,
    save: async (trainer, names) => {
      await trainer.save(join(folder, "saved"));
      return Promise.all(names.map((name) => readFile(join(folder, "saved", name))));
    },
  };
  return {
    runtime: `Node ${process.versions.node}`,
    cases: (path, options) =>
      casesOf(build, path, { ...options, dtypes: ["f32", "bf16", "q8", "q4"], steps: { adamw: 60, muon: 20 } }),
    close: () => rm(folder, { recursive: true }),
  };
}

/** @param {string} prefix @param {AsyncIterable<readonly [string, string]>} cases */
async function* named(prefix, cases) {
  for await (const [name, hash] of cases) yield /** @type {const} */ ([`${prefix}, ${name}`, hash]);
}

/** @param {readonly string[]} files @param {boolean} common */
async function compare(files, common) {
  if (files.length !== 2) throw new TypeError(`--compare: two JSON files were required, got ${files.length}.`);
  const [one, other] = await Promise.all(files.map(async (file) => JSON.parse(await readFile(file, "utf8"))));
  const [a, b] = [one.hashes, other.hashes];
  const isSameEngine = one.runtime === other.runtime;
  const names = [...new Set([...Object.keys(a), ...Object.keys(b)])]
    .filter((name) => isSameEngine || isPortable(name))
    .sort();
  const missing = names.filter((name) => !(name in a && name in b));
  const both = names.filter((name) => name in a && name in b);
  const differing = both.filter((name) => a[name] !== b[name]);
  for (const name of differing) console.log(`differs  ${name}`);
  if (!common) for (const name of missing) console.log(`only in ${name in a ? files[0] : files[1]}  ${name}`);
  console.log(`${both.length} in both, ${differing.length} differ, ${missing.length} in one only`);
  if (differing.length > 0 || both.length === 0 || (!common && missing.length > 0)) process.exitCode = 1;
}
