// @ts-check
/**
 * Builds dist/: first the SIMD kernels, compiled by AssemblyScript twice (plain and relaxed) and embedded as base64, then
 * the TypeScript. The kernels are made anew only when one of their sources is newer.
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
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));
const generated = join(root, "src/backends/wasm/generated");
const target = join(generated, "kernels.ts");

/** @param {string[]} args */
function node(...args) {
  execFileSync(process.execPath, args, { cwd: root, stdio: "inherit" });
}

function newestSource() {
  const files = readdirSync(join(root, "src"), { recursive: true }).map(String);
  const sources = files.filter((file) => file.endsWith(".simd.ts")).map((file) => join(root, "src", file));
  return Math.max(...[...sources, fileURLToPath(import.meta.url)].map((file) => statSync(file).mtimeMs));
}

/** @param {string[]} extra */
function compileKernels(...extra) {
  const out = join(generated, "kernels.wasm");
  const options =
    "-O3 --noAssert --runtime stub --enable simd --enable threads --importMemory --sharedMemory " +
    "--initialMemory 1 --maximumMemory 65536 --disableWarning 112"; // 112: v128 is never passed to JavaScript
  node(
    join(root, "node_modules/assemblyscript/bin/asc.js"),
    "src/backends/wasm/program.simd.ts",
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
  node(join(root, "node_modules/typescript/bin/tsc"), "--outDir", fresh);
  chmodSync(join(fresh, "cli/main.js"), 0o755);
  if (existsSync(dist)) renameSync(dist, `${fresh}.old`);
  renameSync(fresh, dist);
} finally {
  for (const left of [fresh, `${fresh}.old`]) rmSync(left, { recursive: true, force: true });
}
