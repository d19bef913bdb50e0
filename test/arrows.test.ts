/** The table of allowed imports holds for src/, and finds what it forbids. */
import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";

let root: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "mobilellm-arrows-"));
});
afterEach(() => rm(root, { recursive: true }));

/** What is found in a src/ with one file. */
async function problemsOf(file: string, source: string): Promise<string[]> {
  await mkdir(dirname(join(root, file)), { recursive: true });
  await writeFile(join(root, file), source);
  return check(root);
}

/** The lines that scripts/arrows.mjs prints of a folder. */
function check(folder: string): string[] {
  const { status, stderr } = spawnSync(process.execPath, ["scripts/arrows.mjs", folder], { encoding: "utf8" });
  const lines = stderr.split("\n").filter((line) => line !== "");
  expect(status).toBe(lines.length === 0 ? 0 : 1);
  return lines;
}

test("src/ keeps to the table", () => {
  expect(check("src")).toEqual([]);
});

test.each([
  ["model/a.ts", 'import { b } from "../inference/b.ts";', "model/a.ts imports inference/b.ts; model may import"],
  ["model/a.ts", 'import type {\n  B,\n} from "../inference/b.ts";', "model/a.ts imports inference/b.ts"],
  ["model/a.ts", 'export * from "../inference/b.ts";', "model/a.ts imports inference/b.ts"],
  ["model/a.ts", 'const b = await import("../inference/b.ts");', "model/a.ts imports inference/b.ts"],
  [
    "training/data/a.ts",
    'import "../../model/b.ts";',
    "training/data/a.ts imports model/b.ts; training/data may import",
  ],
  ["kernels/linear/a.simd.ts", 'import { b } from "../../program/b";', "a.simd.ts imports program/b.ts; kernels may"],
  [
    "training/a.ts",
    'import { b } from "../kernels/linear/linear.reference.ts";',
    "imports kernels/linear/linear.reference",
  ],
  ["model/a.ts", 'import { b } from "../backends/wasm/wasm.ts";', "model/a.ts imports backends/wasm/wasm.ts"],
  ["cli/a.ts", 'import { b } from "../formats/json.ts";', "cli/a.ts imports formats/json.ts; cli may import entries"],
  ["formats/a.ts", 'import { b } from "node:fs";', "formats/a.ts is not for Node alone, and imports node:fs"],
  ["edge/web.ts", 'import { b } from "./node.ts";', "edge/web.ts is not for Node alone, and imports edge/node.ts"],
  ["a.ts", 'import { b } from "./model/b.ts";', "a.ts lies in no part of the table, and imports model/b.ts"],
])("%s may not hold %s", async (file, source, problem) => {
  expect(await problemsOf(file, source)).toEqual([expect.stringContaining(problem)]);
});

test.each([
  ["model/a.ts", 'import { b } from "../backends/backend.ts";'],
  ["model/a.ts", 'import { b } from "../kernels/linear/linear.ts";'],
  ["model/a.ts", 'import { b } from "../errors.ts";\nimport { c } from "./c.ts";'],
  ["formats/node-a.ts", 'import { b } from "node:fs";'],
  ["entries/node/a.ts", 'import { b } from "../../formats/node-b.ts";'],
  ["model/a.test.ts", 'import { b } from "node:fs";\nimport { c } from "../cli/c.ts";'],
])("%s may hold %s", async (file, source) => {
  expect(await problemsOf(file, source)).toEqual([]);
});
