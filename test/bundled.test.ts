/** The model that comes with the package is there, is what it is said to be, and writes what can be read. */
import { stat } from "node:fs/promises";
import { afterAll, beforeAll, expect, it } from "vitest";
import { prepareInference } from "../src/inference/programs.ts";
import { createModel } from "../src/inference/model.ts";
import { loadCheckpoint } from "../src/model/load.ts";
import {
  bundledModel,
  countParameters,
  createTokenizer,
  type Model,
  openCheckpoint,
} from "../src/entries/node/index.ts";
import { wasm } from "./support/kernel-agreement.ts";

/** Written for this test: what a model of small stories should find likely. */
const STORY =
  "Once upon a time, there was a little girl named Mia. She loved to play in the park with her red ball. One day, the ball " +
  "rolled into a big bush. Mia was sad. A kind dog saw her and ran into the bush. He came out with the ball. Mia was very " +
  'happy. "Thank you, dog!" she said. They played together all day.';
const SHUFFLED =
  "Time upon a once, was there a girl little named Mia. Play to loved she with park the in red her ball. Day one, ball the " +
  "into rolled bush big a. Sad was Mia. Kind a saw dog her bush the into and ran. The with ball out came he. Very was Mia " +
  'happy. "You thank, dog!" said she. Together played they day all.';

let model: Model;
beforeAll(async () => {
  const checkpoint = await openCheckpoint(bundledModel);
  const tokenizer = createTokenizer(checkpoint.tokenizer);
  model = await loadCheckpoint(checkpoint, wasm, {}, async (loaded) => {
    const programs = await prepareInference(loaded, loaded.contextLength);
    return createModel({ name: checkpoint.name, loaded, programs, tokenizer, dispose: () => loaded.machine.dispose() });
  });
  await checkpoint.close();
});
afterAll(() => model.dispose());

async function bitsPerByte(text: string): Promise<number> {
  const [score] = await model.score([{ context: "", continuation: text }]);
  return -score!.logprob / Math.LN2 / new TextEncoder().encode(text).length;
}

it("is small, deep and thin, tied, with grouped queries", async () => {
  const { config } = model;
  expect((await stat(bundledModel)).size).toBeLessThan(8e6);
  expect(countParameters(config).total).toBeGreaterThan(5e6);
  expect(config.layers).toBeGreaterThanOrEqual(12);
  expect(config.isTied).toBe(true);
  expect(config.kvHeads).toBeLessThan(config.heads);
});

it("finds a small story likely, and its words in another order unlikely", async () => {
  const story = await bitsPerByte(STORY);
  expect(story).toBeLessThan(1.2);
  expect(await bitsPerByte(SHUFFLED)).toBeGreaterThan(1.5 * story);
});

it("writes words that a child knows, the same for a seed", async () => {
  const write = async (): Promise<string> => {
    let text = "";
    for await (const piece of model.generate("Once upon a time", { maxTokens: 120, seed: 3 })) text += piece.text;
    return text;
  };
  const text = await write();
  expect(text).toMatch(/\b(was|were|had|said|went|saw|loved)\b/);
  expect(text).toMatch(/^[\p{L}\p{P}\s\d]+$/u);
  expect(await write()).toBe(text);
});
