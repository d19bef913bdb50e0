/**
 * mobilellm/training in a real browser, with and without cross-origin isolation: losses, gradient norms and every byte that is
 * saved are Node's. Needs a build, and Chromium (see browser/pages.ts).
 */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundledModel, loadModel, type ModelConfig } from "mobilellm";
import { createTrainer as createNodeTrainer, loadTexts, type Row, type StepReport } from "mobilellm/training";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createRandom } from "../src/random.ts";
import { noSharing } from "../src/model/config.ts";
import type * as webTraining from "../src/entries/web/training.ts";
import { openPages, type Pages } from "./support/browser/pages.ts";
import { makeTinyCheckpoint, type TinyCheckpoint, VOCAB_SIZE } from "./support/browser/tiny-checkpoint.ts";

/** What the page's script leaves for the function that runs in it, and what Node has in its place. */
type Tools = {
  readonly loadModel: (files: webTraining.SavedFiles | undefined, options: object) => ReturnType<typeof loadModel>;
  readonly fetchCheckpoint: () => Promise<TinyCheckpoint>;
  readonly training: Pick<typeof webTraining, "createTrainer" | "loadTexts">;
};

type Request = {
  /** Absent: the checkpoint is finetuned in place. */
  readonly config: ModelConfig | undefined;
  /** Step, micro-batch, row. */
  readonly batches: readonly (readonly (readonly Row[])[])[];
  readonly prompt: readonly number[];
};

/** Files in base64. */
type Outcome = {
  readonly description: string;
  readonly reports: readonly StepReport[];
  readonly heldOut: { readonly loss: number; readonly tokens: number };
  readonly halfway: Readonly<Record<string, string>>;
  readonly end: Readonly<Record<string, string>>;
  /** The same after half of the steps and a new start from what was saved. */
  readonly resumed: { readonly reports: readonly StepReport[]; readonly end: Readonly<Record<string, string>> };
  /** Before the first step and after the last one, by the model that is trained in place. */
  readonly tokens: readonly (readonly number[])[];
  /** By the model that was saved at the end. */
  readonly savedTokens: readonly number[];
};

const STEPS = 6;
const random = createRandom(5);
const ids = (count: number): number[] => Array.from({ length: count }, () => random.below(VOCAB_SIZE));
const masked: Row = { tokens: ids(20), learn: Array.from({ length: 20 }, (_, i) => Number(i > 9)) };
/** Rows of several lengths, of which one makes the trainer grow. */
const batches = Array.from({ length: STEPS }, (_, step) => [[ids(33), masked], [ids(step === 4 ? 81 : 29)]]);
const prompt = ids(9);

const config: ModelConfig = {
  dim: 24,
  layers: 2,
  heads: 3,
  kvHeads: 1,
  headSize: 8,
  hidden: 56,
  vocabSize: VOCAB_SIZE,
  contextLength: 128,
  activation: "swiglu",
  isTied: true,
  normEps: 1e-5,
  ropeTheta: 10_000,
  sharing: { ...noSharing, kind: "immediate", repeats: 2 },
  bosToken: undefined,
  eosTokens: [0],
};

let root: string;
let checkpoint: TinyCheckpoint;
let pages: Pages;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "mobilellm-browser-"));
  checkpoint = await makeTinyCheckpoint(7);
  pages = await openPages({ ...checkpoint, "models/stories.gguf": await readFile(bundledModel) });
});

afterAll(async () => {
  await pages?.close();
  await rm(root, { recursive: true });
});

/** Runs in the page and in Node, so it uses nothing from around it. */
async function train({ config, batches, prompt }: Request, tools?: Tools): Promise<Outcome> {
  const { loadModel, fetchCheckpoint, training } = tools ?? (globalThis as unknown as Tools);
  const base64 = (files: webTraining.SavedFiles): Record<string, string> =>
    Object.fromEntries(
      Object.entries(files).map(([name, bytes]) => [
        name,
        btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join("")),
      ]),
    );
  const generate = async (model: Awaited<ReturnType<typeof loadModel>>): Promise<readonly number[]> =>
    (await model.generate(prompt, { temperature: 0, maxTokens: 12, ignoreEos: true }).result).tokens;

  const schedule = { kind: "cosine", peak: 0.02, warmupSteps: 2, steps: batches.length } as const;
  const model =
    config === undefined ? await loadModel(await fetchCheckpoint(), { dtype: "f32", threads: 2 }) : undefined;
  const start = config === undefined ? { model } : { config, seed: 3 };
  const tokens = model ? [await generate(model)] : [];

  const trainer = await training.createTrainer({ ...start, schedule, threads: 2 });
  const reports: StepReport[] = [];
  let halfway: webTraining.SavedFiles = {};
  for (const [step, microBatches] of batches.entries()) {
    if (step === batches.length / 2) halfway = await trainer.save({ files: { "notes.txt": `step ${step}` } });
    reports.push(await trainer.step(microBatches));
  }
  const heldOut = await trainer.evaluate(batches[0]![0]!);
  const { description } = trainer;
  if (model) tokens.push(await generate(model));
  const end = await trainer.save();
  await trainer.dispose();
  await model?.dispose();

  const second = await training.createTrainer({ resume: halfway, threads: 2 });
  const resumed: StepReport[] = [];
  for (const microBatches of batches.slice(second.steps)) resumed.push(await second.step(microBatches));
  const resumedEnd = await second.save();
  await second.dispose();

  const saved = await loadModel(end, { dtype: "f32", threads: 2 });
  const savedTokens = await generate(saved);
  await saved.dispose();
  return {
    description,
    reports,
    heldOut,
    halfway: base64(halfway),
    end: base64(end),
    resumed: { reports: resumed, end: base64(resumedEnd) },
    tokens,
    savedTokens,
  };
}

async function readFolder(folder: string): Promise<webTraining.SavedFiles> {
  const names = await readdir(folder);
  return Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, new Uint8Array(await readFile(join(folder, name)))] as const)),
  );
}

async function writeFolder(files: webTraining.SavedFiles): Promise<string> {
  const folder = join(await mkdtemp(join(root, "resume-")), "last");
  await mkdir(folder);
  for (const [name, bytes] of Object.entries(files)) await writeFile(join(folder, name), bytes);
  return folder;
}

/** Node's entry, with a folder wherever the page has a record. */
const inNode: Tools = {
  loadModel,
  fetchCheckpoint: async () => checkpoint,
  training: {
    loadTexts,
    async createTrainer({ resume, ...options }) {
      const trainer = await createNodeTrainer({
        ...(options as object),
        resume: resume && (await writeFolder(resume as webTraining.SavedFiles)),
      });
      const save = async (options?: object): Promise<webTraining.SavedFiles> => {
        const folder = join(await mkdtemp(join(root, "save-")), "last");
        await trainer.save(folder, options);
        return readFolder(folder);
      };
      return new Proxy(trainer as unknown as webTraining.Trainer, {
        get: (target, key) => (key === "save" ? save : Reflect.get(target, key)),
      });
    },
  },
};

const files = ["config.json", "model.safetensors", "optimizer.safetensors", "trainer.json"];

describe.each([
  ["from random weights", config],
  ["from a loaded model, in place", undefined],
] as const)("training %s", (_, config) => {
  const request = { config, batches, prompt };
  let expected: Outcome;
  beforeAll(async () => {
    expected = await train(request, inNode);
  });

  it("in Node goes on bit for bit, and what generates has the new weights", () => {
    expect(expected.description).toBe("wasm (relaxed SIMD, 2 threads)");
    expect(new Set(expected.reports.map(({ loss }) => loss)).size).toBe(STEPS);
    expect(Object.keys(expected.end).toSorted()).toEqual(files);
    expect(expected.resumed).toEqual({ reports: expected.reports.slice(STEPS / 2), end: expected.end });
    expect(expected.savedTokens).toHaveLength(12);
    if (config !== undefined) return;
    const [before, after] = expected.tokens;
    expect(after).toEqual(expected.savedTokens);
    expect(after).not.toEqual(before);
  });

  it.each([
    ["isolated", "2 threads"],
    ["plain", "1 thread"],
  ] as const)("in a page that is %s computes what Node computes, bit for bit", async (kind, threads) => {
    const actual = await pages.withPage(kind, (page) => page.evaluate(train, request));
    const wanted = { ...expected, description: `wasm (relaxed SIMD, ${threads})` };
    expect(actual.reports).toEqual(wanted.reports);
    expect(actual.heldOut).toEqual(wanted.heldOut);
    expect(Object.keys(actual.halfway).toSorted()).toEqual([...files, "notes.txt"].toSorted());
    // File by file first, for a short failure.
    for (const name of files) expect(actual.end[name] === wanted.end[name], name).toBe(true);
    expect(actual.resumed.reports).toEqual(actual.reports.slice(STEPS / 2));
    for (const name of files) expect(actual.resumed.end[name] === actual.end[name], `resumed ${name}`).toBe(true);
    expect(actual).toEqual(wanted);
  });
});

/** Finetunes the bundled model, in the page and in Node. */
async function finetune(texts: readonly string[], tools?: Tools): Promise<unknown> {
  const { loadModel, training } = tools ?? (globalThis as unknown as Tools);
  const model = await loadModel(undefined, { dtype: "f32", threads: 2 });
  const trainer = await training.createTrainer({ model, schedule: { kind: "constant", peak: 1e-3 }, threads: 2 });
  const loader = training.loadTexts(texts, { tokenizer: model.tokenizer!, length: 24, seed: 1 });
  const losses: number[] = [];
  for (let step = 0; step < 4; step++) losses.push((await trainer.step([await loader.next(2)])).loss);
  const { text } = await model.generate("The lighthouse", { temperature: 0, maxTokens: 12 }).result;
  await trainer.dispose();
  await model.dispose();
  return { losses, text, position: loader.position };
}

it("a page finetunes the bundled model on texts as Node does", async () => {
  const texts = Array.from({ length: 6 }, () => "The lighthouse keeper counts ships, and every ship counts him.");
  const expected = (await finetune(texts, inNode)) as { losses: number[]; text: string };
  expect(expected.losses.at(-1)).toBeLessThan(expected.losses[0]!);
  expect(await pages.withPage("isolated", (page) => page.evaluate(finetune, texts))).toEqual(expected);
});
