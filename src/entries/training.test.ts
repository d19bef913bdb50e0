import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { fakeConfig } from "../../test/support/fake-trainer.ts";
import { createTrainer, type CreateTrainerOptions, type SavedFiles } from "./web/training.ts";
import { createTrainer as createNodeTrainer } from "./node/training.ts";

/** No worker of the web is here: workers are the business of test/browser-training.test.ts. */
const device = "reference";
const row = [1, 5, 2, 9, 1, 5];
const start = { config: fakeConfig, seed: 3, device, schedule: { peak: 0.01, warmupSteps: 2, steps: 5 } } as const;

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "mobilellm-web-"));
});
afterAll(() => rm(root, { recursive: true }));

/** What a trainer saves after some steps. */
async function train(options: CreateTrainerOptions, steps: number): Promise<SavedFiles> {
  const trainer = await createTrainer(options);
  for (let step = 0; step < steps; step++) await trainer.step([[row]]);
  const saved = await trainer.save({ files: { "notes.txt": "two steps" } });
  await trainer.dispose();
  return saved;
}

async function readFolder(folder: string): Promise<Record<string, Uint8Array>> {
  const names = await readdir(folder);
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, new Uint8Array(await readFile(join(folder, name)))] as const)),
  );
}

it("saves the bytes that the trainer in Node writes into a folder", async () => {
  const saved = await train(start, 2);
  const trainer = await createNodeTrainer(start);
  for (let step = 0; step < 2; step++) await trainer.step([[row]]);
  await trainer.save(join(root, "node"), { files: { "notes.txt": "two steps" } });
  expect(await readFolder(join(root, "node"))).toEqual(saved);
});

it("goes on from what either saved, as if nothing had been", async () => {
  const whole = await train(start, 4);
  const half = await train(start, 2);
  expect(await train({ resume: half, device }, 2)).toEqual(whole);

  const blobs = Object.fromEntries(Object.entries(half).map(([name, bytes]) => [name, new Blob([bytes])]));
  expect(await train({ resume: blobs, device }, 2)).toEqual(whole);

  const folder = join(root, "from-record");
  const trainer = await createTrainer({ resume: half, device });
  expect(trainer.steps).toBe(2);
  await (await createNodeTrainer(start)).save(folder);
  for (const [name, bytes] of Object.entries(half)) await writeFile(join(folder, name), bytes);
  const inNode = await createNodeTrainer({ resume: folder, device });
  for (let step = 0; step < 2; step++) await inNode.step([[row]]);
  await inNode.save(folder, { files: { "notes.txt": "two steps" } });
  expect(await readFolder(folder)).toEqual(whole);
});

it("begins with the weights in bytes, or in an open checkpoint", async () => {
  const saved = await train(start, 2);
  const fromBytes = await createTrainer({ model: saved, device });
  expect(fromBytes.steps).toBe(0);
  const fromCheckpoint = await createTrainer({ model: await fromBytes.checkpoint(), device });
  expect((await fromBytes.save())["model.safetensors"]).toEqual(saved["model.safetensors"]);
  expect((await fromCheckpoint.save())["model.safetensors"]).toEqual(saved["model.safetensors"]);
});

it("refuses what is no saved trainer, in one line that names what is missing", async () => {
  const saved = await train(start, 0);
  for (const missing of ["trainer.json", "optimizer.safetensors", "config.json"]) {
    const { [missing]: _, ...resume } = saved;
    await expect(createTrainer({ resume, device })).rejects.toThrow(new RegExp(`^resume: ${missing} .*$`));
  }
  const broken = { ...saved, "trainer.json": saved["trainer.json"]!.subarray(0, 5) };
  await expect(createTrainer({ resume: broken, device })).rejects.toThrow(/^trainer\.json: valid JSON was expected/);
  await expect(createTrainer({ resume: "runs/last" as never, device })).rejects.toThrow(
    "createTrainer: resume: expected the record of files that save gave, got string.",
  );
  await expect(createTrainer({ model: "models/x" as never, device })).rejects.toThrow(
    'model: expected a GGUF file\'s bytes or a record of files, got string. In Node, import "mobilellm" to load paths.',
  );
  await expect(createTrainer({ ...start, resume: saved })).rejects.toThrow(
    "createTrainer: exactly one of config, model and resume was required, got config and resume.",
  );
});
