import { spawnSync } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { replaceFolder, settleFolder } from "./node-folder.ts";

const built = new URL("../../dist/formats/node-folder.js", import.meta.url).href;

let root: string;
let folder: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "mobilellm-folder-"));
  folder = join(root, "data");
  await write("first");
});
afterEach(() => rm(root, { recursive: true }));

const write = (text: string): Promise<void> => replaceFolder(folder, (fresh) => writeFile(join(fresh, "text"), text));
const read = (): Promise<string> => readFile(join(folder, "text"), "utf8");

/** Replaces the folder in a process of its own, which is killed when it begins its nth rename. */
function killAtRename(nth: number): NodeJS.Signals | null {
  const script = `
    const { promises } = require("node:fs");
    const { rename } = promises;
    let count = 0;
    promises.rename = (...paths) => (++count === ${nth} ? process.kill(process.pid, "SIGKILL") : rename(...paths));
    require("node:module").syncBuiltinESMExports();
    import(${JSON.stringify(built)}).then(({ replaceFolder }) =>
      replaceFolder(${JSON.stringify(folder)}, (fresh) => promises.writeFile(fresh + "/text", "second")));`;
  return spawnSync(process.execPath, ["-e", script]).signal;
}

it("puts the new folder in the place of the old one, and leaves nothing beside it", async () => {
  await write("second");
  expect(await read()).toBe("second");
  expect(await readdir(root)).toEqual(["data"]);
});

it.each([
  ["before its renames", 1, ["data", ".data.new"]],
  ["between its renames", 2, [".data.old", ".data.new"]],
])("a process that is killed %s leaves the old folder to be found", async (_, nth, left) => {
  expect(killAtRename(nth)).toBe("SIGKILL");
  expect((await readdir(root)).toSorted()).toEqual(left.toSorted());
  await settleFolder(folder);
  expect(await read()).toBe("first");
  await write("third");
  expect(await read()).toBe("third");
  expect(await readdir(root)).toEqual(["data"]);
});

it("when the filling or the second rename fails, the old folder is there still, and nothing beside it", async () => {
  await expect(replaceFolder(folder, () => Promise.reject(new Error("disk full")))).rejects.toThrow("disk full");
  expect(await readdir(root)).toEqual(["data"]);
  await expect(replaceFolder(folder, (fresh) => rm(fresh, { recursive: true }))).rejects.toThrow("ENOENT");
  expect(await readdir(root)).toEqual(["data"]);
  expect(await read()).toBe("first");
});
