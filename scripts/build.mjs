// @ts-check
/**
 * Builds dist/: first what the declarations of kernels say, written for AssemblyScript (scripts/write-simd.mjs); then the SIMD
 * kernels, compiled twice (plain and relaxed) and embedded as base64; then the TypeScript. Kernels are made anew only
 * when one of their sources is newer.
 */
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { createRecipeSchema } from "./recipe-schema.mjs";
import { writeSimdSources } from "./write-simd.mjs";

const root = fileURLToPath(new URL("..", import.meta.url));
const generated = join(root, "src/backends/wasm/generated");
const target = join(generated, "kernels.ts");
const tsc = join(root, "node_modules/typescript/bin/tsc");

/** @param {string[]} args */
function node(...args) {
  execFileSync(process.execPath, args, { cwd: root, stdio: "inherit" });
}

/** The newest source of the kernels: AssemblyScript, declarations and this build. */
function newestSource() {
  const files = readdirSync(join(root, "src"), { recursive: true }).map(String);
  const sources = files.filter(
    (file) =>
      !file.includes("generated") &&
      (file.endsWith(".simd.ts") || file.startsWith("kernels") || /wasm.(layout|header)\.ts$/.test(file)),
  );
  const scripts = readdirSync(join(root, "scripts")).map((file) => join(root, "scripts", file));
  const paths = [...sources.map((file) => join(root, "src", file)), ...scripts];
  return Math.max(...paths.map((path) => statSync(path).mtimeMs));
}

/** The declarations as JavaScript, in a folder of their own, since Node 20 runs no TypeScript. */
async function writeDeclared() {
  const compiled = join(root, `node_modules/.declarations-${process.pid}`);
  try {
    node(tsc, "-p", "tsconfig.declarations.json", "--outDir", compiled);
    const { kernels } = await import(pathToFileURL(join(compiled, "kernels/kernels.js")).href);
    const [layout, header] = await Promise.all(
      ["layout", "header"].map((name) => import(pathToFileURL(join(compiled, `backends/wasm/${name}.js`)).href)),
    );
    writeSimdSources(join(root, "src"), kernels, { ...layout, ...header });
  } finally {
    rmSync(compiled, { recursive: true, force: true });
  }
}

/** @param {string[]} extra */
function compileKernels(...extra) {
  const out = join(generated, "kernels.wasm");
  const options =
    "-O3 --noAssert --runtime stub --enable simd --enable threads --importMemory --sharedMemory " +
    "--initialMemory 1 --maximumMemory 65536 --disableWarning 112"; // 112: v128 is never passed to JavaScript
  node(
    join(root, "node_modules/assemblyscript/bin/asc.js"),
    "src/backends/wasm/loop.simd.ts",
    ...options.split(" "),
    "--outFile",
    out,
    ...extra,
  );
  const base64 = readFileSync(out).toString("base64");
  rmSync(out);
  return base64;
}

if (!existsSync(target) || statSync(target).mtimeMs < newestSource()) {
  mkdirSync(generated, { recursive: true });
  await writeDeclared();
  const lines = [
    "/** Made by scripts/build.mjs from the *.simd.ts files. */",
    `export const plainKernels: string = "${compileKernels()}";`,
    `export const relaxedKernels: string = "${compileKernels("--enable", "relaxed-simd")}";`,
  ];
  writeFileSync(`${target}.new`, `${lines.join("\n")}\n`);
  renameSync(`${target}.new`, target);
}

// Into a folder of its own, which then takes dist's place: what runs from dist/ meanwhile finds a whole one, and a
// failed build leaves the old one. Below node_modules/ no tool looks at it.
const dist = join(root, "dist");
const fresh = join(root, `node_modules/.dist-${process.pid}`);
try {
  node(tsc, "--outDir", fresh);
  chmodSync(join(fresh, "cli/main.js"), 0o755);
  const { recipeSchema } = await import(pathToFileURL(join(fresh, "training/run/recipe.js")).href);
  writeFileSync(join(fresh, "recipe.schema.json"), `${JSON.stringify(createRecipeSchema(recipeSchema), null, 2)}\n`);
  if (existsSync(dist)) renameSync(dist, `${fresh}.old`);
  renameSync(fresh, dist);
} finally {
  for (const left of [fresh, `${fresh}.old`]) rmSync(left, { recursive: true, force: true });
}
