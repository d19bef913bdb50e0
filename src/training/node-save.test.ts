import { cp, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { wasm } from "../../test/support/kernel-agreement.ts";
import { fakeConfig } from "../../test/support/fake-trainer.ts";
import { FormatError } from "../errors.ts";
import { fromHfConfig, type ModelConfig, type Sharing } from "../model/config.ts";
import { openTrainerFolder, saveTrainer } from "./node-save.ts";
import { randomParameters } from "./parameter-sources.ts";
import { createOwnTrainer, type TrainerCore } from "./trainer.ts";

const row = [1, 5, 2, 9, 1, 5];
const schedule = { kind: "cosine", peak: 0.01, warmupSteps: 2, steps: 5 } as const;

let root: string;
let saved: string; // after two steps
let folder: string; // a copy of it
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "mobilellm-save-"));
  saved = join(root, "saved");
  const trainer = await create(fakeConfig);
  for (let step = 0; step < 2; step++) await trainer.step([[row]]);
  await saveTrainer(trainer, saved, { "run.json": "{}" });
});
afterAll(() => rm(root, { recursive: true }));
beforeEach(async () => {
  folder = join(await mkdtemp(join(root, "case-")), "last");
  await cp(saved, folder, { recursive: true });
});

function create(config: ModelConfig): Promise<TrainerCore> {
  return createOwnTrainer(wasm, config, randomParameters(1), {
    schedule,
    optimizer: { clip: null, betas: [0.8, 0.9] },
  });
}

async function resume(directory: string): Promise<TrainerCore> {
  const { checkpoint, state, source, ...opened } = await openTrainerFolder(directory);
  const { optimizer, schedule } = state;
  try {
    return await createOwnTrainer(wasm, fromHfConfig(checkpoint.config), source, { optimizer, schedule });
  } finally {
    await opened.close();
  }
}

it("goes on with the steps that would have come, their learning rates and settings among them", async () => {
  const whole = await create(fakeConfig);
  for (let step = 0; step < 2; step++) await whole.step([[row]]);
  const resumed = await resume(saved);
  expect(resumed.state()).toEqual(whole.state());
  expect(resumed.config).toEqual(fakeConfig);
  for (let step = 0; step < 4; step++) expect(await resumed.step([[row]])).toEqual(await whole.step([[row]]));
});

it("goes on with Muon's momentum", async () => {
  const open = () => createOwnTrainer(wasm, fakeConfig, randomParameters(1), { schedule, optimizer: { kind: "muon" } });
  const [whole, first] = [await open(), await open()];
  for (const trainer of [whole, first]) await trainer.step([[row]]);
  await saveTrainer(first, folder, {});
  const resumed = await resume(folder);
  expect(resumed.state()).toEqual(whole.state());
  for (let step = 0; step < 3; step++) expect(await resumed.step([[row]])).toEqual(await whole.step([[row]]));
});

it("leaves the folder and its files alone behind it", async () => {
  await saveTrainer(await resume(folder), folder, { "notes.txt": "later" });
  expect(await readdir(join(folder, ".."))).toEqual(["last"]);
  const own = ["config.json", "model.safetensors", "notes.txt", "optimizer.safetensors", "trainer.json"];
  expect((await readdir(folder)).toSorted()).toEqual(own);
  expect(await readFile(join(folder, "notes.txt"), "utf8")).toBe("later");
});

describe("after a save that was broken off", () => {
  const half = (): Promise<void> => writeFileIn(join(folder, "../.last.new"), "model.safetensors", "half");

  it("while it wrote, the folder is as it was", async () => {
    await half();
    expect((await resume(folder)).steps).toBe(2);
  });

  it("between its renames, the old folder is back", async () => {
    await rename(folder, join(folder, "../.last.old"));
    await half();
    expect((await resume(folder)).steps).toBe(2);
    expect(await readdir(folder)).toContain("run.json");
  });

  it("before it cleaned up, the new folder counts", async () => {
    await cp(folder, join(folder, "../.last.old"), { recursive: true });
    await writeFile(join(join(folder, "../.last.old"), "trainer.json"), "{}");
    expect((await resume(folder)).steps).toBe(2);
  });

  it("the next save finds its way from any of these", async () => {
    const trainer = await resume(folder);
    await trainer.step([[row]]);
    for (const interrupt of [
      half,
      () => rename(folder, join(folder, "../.last.old")),
      () => cp(folder, join(folder, "../.last.old"), { recursive: true }),
    ]) {
      await interrupt();
      await saveTrainer(trainer, folder, {});
      expect(await readdir(join(folder, ".."))).toEqual(["last"]);
      expect((await resume(folder)).steps).toBe(3);
    }
  });
});

describe("a damaged folder", () => {
  it("without its last bytes, anywhere, is refused in one line that names the file", async () => {
    for (const file of ["trainer.json", "optimizer.safetensors"]) {
      const bytes = await readFile(join(saved, file));
      for (const length of [0, 1, 7, 8, 20, Math.floor(bytes.length / 2), bytes.length - 2]) {
        await writeFile(join(folder, file), bytes.subarray(0, length));
        const error = await resume(folder).catch((caught: unknown) => caught);
        expect(error, `${file} cut to ${length}`).toBeInstanceOf(FormatError);
        expect((error as Error).message).toMatch(new RegExp(`^[^\n]*${file}[^\n]*$`));
      }
      await writeFile(join(folder, file), bytes);
    }
  });

  it.each([
    ["null", "a JSON object was expected, got null"],
    ["[]", "a JSON object was expected, got []"],
    ["{}", "format 1 was required, got undefined. Use the version that wrote it."],
    ['{ "format": 1 }', "steps: required, but missing."],
    ['{ "format": 1, "steps": -1 }', "steps: expected a whole number of 0 or more, got -1."],
    ['{ "format": 1, "steps": 1, "optimizer": null, "schedule": {} }', "optimizer: expected an object, got null."],
    [
      '{ "format": 1, "steps": 1, "optimizer": { "eps": "x" }, "schedule": {} }',
      "optimizer.eps: expected a number above 0",
    ],
    [
      '{ "format": 1, "steps": 1, "optimizer": { "betas": 3 }, "schedule": {} }',
      "optimizer.betas: expected a list of 2",
    ],
    ['{ "format": 1, "steps": 1, "optimizer": {}, "schedule": { "steps": null } }', "schedule.steps: expected"],
  ])("with a trainer.json of %s is refused", async (text, message) => {
    await writeFile(join(folder, "trainer.json"), text);
    const error = await resume(folder).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(FormatError);
    expect((error as Error).message).toContain(`${join(folder, "trainer.json")}: ${message}`);
  });

  it.each(["trainer.json", "optimizer.safetensors", "model.safetensors", "config.json"])(
    "without %s is refused",
    async (file) => {
      await rm(join(folder, file));
      const error = await resume(folder).catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(FormatError);
      expect((error as Error).message).toContain(file);
    },
  );

  it("with another model's moments is refused", async () => {
    const config = { ...fakeConfig, hidden: 24 };
    await saveTrainer(await create(config), `${folder}-wide`, {});
    await cp(join(`${folder}-wide`, "optimizer.safetensors"), join(folder, "optimizer.safetensors"));
    await expect(resume(folder)).rejects.toThrow(
      /^optimizer\.safetensors: tensor mean\.\S+ must have 128 values, got \(24, 8\)/,
    );
  });
});

it.each<Sharing>([
  { kind: "immediate", repeats: 2, cache: "own" },
  { kind: "immediate", repeats: 2, cache: "first" },
  { kind: "immediate", repeats: 4, cache: "own" },
  { kind: "repeat", repeats: 2, cache: "own" },
  { kind: "repeat", repeats: 3, cache: "first" },
  { kind: "reverse", repeats: 2, cache: "own" },
])("keeps a model that shares layers as %j", async (sharing) => {
  const trainer = await create({ ...fakeConfig, layers: 2, sharing });
  await saveTrainer(trainer, folder, {});
  const resumed = await resume(folder);
  expect(resumed.config).toEqual(trainer.config);
  expect(await resumed.evaluate([row])).toEqual(await trainer.evaluate([row]));
});

async function writeFileIn(directory: string, name: string, text: string): Promise<void> {
  await cp(folder, directory, { recursive: true }).catch(() => cp(saved, directory, { recursive: true }));
  await writeFile(join(directory, name), text);
}
