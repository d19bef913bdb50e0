// @ts-check
/**
 * Which part of src/ may import which. `npm run check` runs it:
 *
 *   node scripts/arrows.mjs [src]
 *
 * A part is a folder (what lies below it included, unless that has a line of its own) or a file. Tests and benchmarks may import anything.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, posix, sep } from "node:path";
import { argv, exit } from "node:process";
import { fileURLToPath } from "node:url";

/** Every part may import these. */
const common = ["errors.ts", "options.ts", "random.ts"];

/** Single files by a name of their own: the contract of backends, and what operations are, without how they are computed. */
const namedFiles = {
  contract: /^backends\/backend\.ts$/,
  declarations: /^kernels\/(operations?|([^/]+)\/\2)\.ts$/,
};

/** Each part, and the parts (or named files) that it may import besides itself. */
const arrows = {
  tensor: "",
  tokenizer: "",
  formats: "tensor",
  "options.ts": "formats",
  kernels: "tensor",
  program: "kernels tensor",
  backends: "program kernels tensor",
  model: "program declarations contract formats options.ts tensor",
  inference: "model program declarations contract tokenizer options.ts tensor",
  training: "model program declarations contract formats options.ts tensor",
  "training/data": "training tokenizer formats options.ts",
  "training/run": "training training/data inference model program contract tokenizer formats options.ts",
  evaluation: "inference model tokenizer formats options.ts",
  design: "model options.ts tensor",
  conversion: "model tokenizer formats options.ts tensor",
  edge: "conversion design training training/data training/run inference model backends tokenizer formats options.ts tensor",
  entries:
    "edge conversion design evaluation training training/data training/run inference model contract tokenizer formats options.ts tensor",
  cli: "entries",
};

/** Only these files may import `node:` and one another; what a browser loads is none of them. */
const forNode = [/(^|\/)node-[^/]*$/, /\.node\.ts$/, /^edge\/node\.ts$/, /^entries\/node\//, /^cli\//];
const forTests = /\.(test|bench)\.ts$/;

const parts = /** @type {(keyof typeof arrows)[]} */ (Object.keys(arrows)).sort((a, b) => b.length - a.length);

/** @param {string} file whose part has the longest name that it lies below. */
const partOf = (file) => parts.find((part) => file === part || file.startsWith(`${part}/`));

/** @param {string} file */
const isForNode = (file) => forNode.some((pattern) => pattern.test(file));

/** @param {string} source @returns {string[]} */
function importsIn(source) {
  const statements = /^(?:import|export)\s(?:[^"';=]*\bfrom )?"([^"]+)"|\bimport\("([^"]+)"\)/gm;
  return Array.from(source.matchAll(statements), ([, name, lazy]) => name ?? lazy ?? "");
}

/**
 * @param {string} file below src/, such as `model/load.ts`.
 * @param {string} name as it is written in the import.
 * @returns {string | undefined} what is wrong with the import.
 */
function problemOf(file, name) {
  if (name.startsWith("node:") && !isForNode(file)) return `${file} is not for Node alone, and imports ${name}`;
  if (!name.startsWith(".")) return undefined;
  const target = posix.join(posix.dirname(file), name.endsWith(".ts") ? name : `${name}.ts`);
  if (target.startsWith("..") || common.includes(target)) return undefined;
  if (isForNode(target) && !isForNode(file)) return `${file} is not for Node alone, and imports ${target}`;
  const [from, to] = [partOf(file), partOf(target)];
  if (from === undefined) return `${file} lies in no part of the table, and imports ${target}`;
  const allowed = arrows[from].split(" ");
  const isNamed = Object.entries(namedFiles).some(([name, files]) => allowed.includes(name) && files.test(target));
  if (from === to || isNamed || allowed.some((name) => name === to)) return undefined;
  return `${file} imports ${target}; ${from} may import ${allowed.join(", ") || "nothing"}`;
}

const root = argv[2] ?? fileURLToPath(new URL("../src", import.meta.url));
const paths = readdirSync(root, { recursive: true }).map((path) => String(path).replaceAll(sep, "/"));
const files = paths.filter((file) => file.endsWith(".ts") && !forTests.test(file) && !file.includes("/generated/"));
const problems = files.flatMap((file) =>
  importsIn(readFileSync(join(root, file), "utf8")).map((name) => problemOf(file, name)),
);
const found = new Set(problems.filter((problem) => problem !== undefined));
for (const problem of found) console.error(`arrows: ${problem}.`);
exit(found.size > 0 ? 1 : 0);
