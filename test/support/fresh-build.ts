/**
 * Runs before all tests: builds dist/ and the kernels anew if a source is newer, so that no test runs what was there before an
 * edit. If the build fails, tests that run it fail too (require-build.ts), and the others go on.
 */
import { execFileSync } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { TestProject } from "vitest/node";

declare module "vitest" {
  // oxlint-disable-next-line typescript/consistent-type-definitions -- only an interface can be added to
  interface ProvidedContext {
    /** Why the sources don't build; empty if they do. */
    readonly buildError: string;
  }
}

export default function setup(project: TestProject): void {
  const { root } = project.config;
  const refresh = (): void => project.provide("buildError", isStale(root) ? build(root) : "");
  refresh();
  project.onTestsRerun(async () => refresh());
}

function isStale(root: string): boolean {
  const built = statSync(join(root, "dist"), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const sources = readdirSync(join(root, "src"), { recursive: true })
    .map((path) => join("src", String(path)))
    .filter((path) => !/\.(test|bench)\.ts$/.test(path));
  // A folder is newer once a file in it was moved or deleted.
  return [...sources, "tsconfig.json", "scripts/build.mjs"].some((path) => statSync(join(root, path)).mtimeMs > built);
}

function build(root: string): string {
  try {
    execFileSync(process.execPath, ["scripts/build.mjs"], { cwd: root, stdio: "inherit" });
    return "";
  } catch (cause) {
    return `The build is older than src/, and a new one failed: ${(cause as Error).message}. Its errors stand above the tests.`;
  }
}
