import { describe, expect, it } from "vitest";
import { createFakeRunner, fakeTokenizer, type FakeRunner } from "../../test/support/fake-runner.ts";
import { generate } from "./generate.ts";
import { type BatchPiece, generateBatch } from "./generate-batch.ts";
import { createSession, type Session } from "./session.ts";

type Limits = Parameters<typeof createFakeRunner>[0];

function setup(limits: Limits = {}): { runner: FakeRunner; session: Session } {
  const runner = createFakeRunner({ cacheRows: 128, maxTokens: 16, maxOutputs: 8, ...limits });
  return { runner, session: createSession(runner, { fingerprint: "m" }) };
}

const prompts = ["hello there", "ab", "a much longer beginning than the others", "stab", "z"];
const options = { maxTokens: 12, temperature: 0.9, seed: 5, repetitionPenalty: 1.2 };

describe.each([
  ["all at once", {}],
  ["one row at a time", { maxTokens: 1, maxOutputs: 1 }],
  ["more texts than questions", { maxOutputs: 2 }],
  ["a cache with room for few", { cacheRows: 64 }],
] as const)("%s", (_, limits) => {
  it("writes each text as it comes out alone", async () => {
    const results = await generateBatch(setup(limits).session, fakeTokenizer, prompts, options).results;
    for (const [i, prompt] of prompts.entries()) {
      const alone = await generate(setup().session, fakeTokenizer, prompt, options).result;
      const { text, tokens, finishReason, usage } = results[i]!;
      expect({ text, tokens, finishReason, usage }).toEqual({
        text: alone.text,
        tokens: alone.tokens,
        finishReason: alone.finishReason,
        usage: alone.usage,
      });
    }
  });
});

it("makes a token of every text in one replay", async () => {
  const { runner, session } = setup({ maxTokens: 64 });
  await generateBatch(session, fakeTokenizer, ["ab", "st", "z"], { ...options, ignoreEos: true }).results;
  expect(runner.calls).toHaveLength(12);
  expect(runner.calls[5]).toHaveLength(3);
});

it("gives pieces with the index of their prompt, whose texts add up to the results'", async () => {
  const generation = generateBatch(setup().session, fakeTokenizer, prompts, options);
  const texts = prompts.map(() => "");
  const pieces: BatchPiece[] = [];
  for await (const piece of generation) {
    texts[piece.index] += piece.text;
    pieces.push(piece);
  }
  const again = await generateBatch(setup().session, fakeTokenizer, prompts, options).results;
  expect(texts).toEqual(again.map(({ text }) => text));
  expect(pieces.every(({ logprob }) => logprob < 0)).toBe(true);
});

it("lets another use the model between two pieces, and goes on as if nothing had been", async () => {
  const { session } = setup({ cacheRows: 64 });
  const expected = await generateBatch(setup({ cacheRows: 64 }).session, fakeTokenizer, prompts, options).results;
  const generation = generateBatch(session, fakeTokenizer, prompts, options);
  const texts = prompts.map(() => "");
  let seen = 0;
  for await (const { index, text } of generation) {
    texts[index] += text;
    if (++seen % 20 === 0) await session.feed([1, 2, 3]);
  }
  expect(texts).toEqual(expected.map(({ text }) => text));
});

it("ends with the signal's reason, and leaves the session free", async () => {
  const { runner, session } = setup();
  const abort = new AbortController();
  runner.onForward = () => abort.abort(new Error("enough"));
  const generation = generateBatch(session, fakeTokenizer, prompts, { ...options, signal: abort.signal });
  await expect(generation.results).rejects.toThrow("enough");
  runner.onForward = undefined;
  expect((await session.feed([1, 2])).logits).toHaveLength(32);
});

it("refuses what no prompt alone could have, and sliding", () => {
  const { session } = setup();
  expect(() => generateBatch(session, fakeTokenizer, ["a", ""])).not.toThrow();
  expect(() => generateBatch(session, fakeTokenizer, [[1], []])).toThrowErrorMatchingInlineSnapshot(
    `[RangeError: generate: the prompt must have at least one token, got none. Start with the bos token.]`,
  );
  expect(() =>
    generateBatch(session, fakeTokenizer, ["a"], { contextOverflow: "slide" }),
  ).toThrowErrorMatchingInlineSnapshot(
    `[TypeError: generate: contextOverflow: "slide" is for one prompt, got several. Generate them one by one.]`,
  );
});
