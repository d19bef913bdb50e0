import { describe, expect, test } from "vitest";
import { createFakeRunner, fakeTokenizer, type FakeRunner, forwardAlone } from "../../test/support/fake-runner.ts";
import { createRandom } from "../random.ts";
import { argmax, logSumExp } from "./log-softmax.ts";
import { logits, perplexity, score } from "./score.ts";
import { createSession, type Session } from "./session.ts";

function setup(options: Parameters<typeof createFakeRunner>[0] = {}): { runner: FakeRunner; session: Session } {
  const runner = createFakeRunner(options);
  return { runner, session: createSession(runner, { fingerprint: "m" }) };
}

/** One forward pass for each token of the continuation. */
async function naiveScore(context: number[], continuation: number[], contextLength = 64): Promise<object> {
  let logprob = 0;
  let isGreedy = true;
  const text = [...context, ...continuation].slice(-(contextLength + 1));
  for (let i = text.length - continuation.length; i < text.length; i++) {
    const row = await forwardAlone(createFakeRunner({ maxTokens: 64 }), text.slice(0, i));
    logprob += row[text[i]!]! - logSumExp(row);
    isGreedy &&= argmax(row) === text[i];
  }
  return { logprob: expect.closeTo(logprob, 5), isGreedy, tokenCount: continuation.length };
}

describe("score", () => {
  test("sums the continuation's log-probabilities, and runs a shared context once", async () => {
    const { session, runner } = setup({ maxTokens: 32, maxOutputs: 16 });
    const context = Array.from({ length: 19 }, (_, i) => i);
    const best = argmax(await forwardAlone(createFakeRunner({ maxTokens: 64 }), context));
    const continuations = [[5, 6, 7, 8, 9, 10, 11], [best], [5, 1], [3]];
    const requests = continuations.map((continuation) => ({ context, continuation }));
    requests.splice(1, 0, { context: [4, 4], continuation: [2] });
    const expected = await Promise.all(requests.map((request) => naiveScore(request.context, request.continuation)));
    const steps: unknown[] = [];
    expect(await score(session, undefined, requests, { onProgress: (step) => steps.push(step) })).toEqual(expected);
    expect(expected[2]).toMatchObject({ isGreedy: true });
    expect(steps.at(-1)).toEqual({ done: 5, total: 5 });
    // All at once: 19 and 2 of context, 6 of a continuation, whose 5 another one shares; a last token is asked about only.
    expect(runner.calls.map((tokens) => tokens.length)).toEqual([19 + 2 + 6]);
  });

  test.each([
    { maxTokens: 1, maxOutputs: 1, contextLength: 16 },
    { maxTokens: 8, maxOutputs: 3, contextLength: 16 },
    { maxTokens: 5, maxOutputs: 5, contextLength: 24 },
    { maxTokens: 64, maxOutputs: 64, contextLength: 64 },
  ])("texts that share beginnings score as they would alone: %o", async (limits) => {
    const { session, runner } = setup(limits);
    const random = createRandom(3);
    const tokens = (count: number): number[] => Array.from({ length: count }, () => random.below(3));
    await session.feed(tokens(7));
    const requests = Array.from({ length: 60 }, () => ({
      context: tokens(1 + random.below(9)),
      continuation: tokens(1 + random.below(7)),
    }));
    const expected = await Promise.all(
      requests.map(({ context, continuation }) => naiveScore(context, continuation, limits.contextLength)),
    );
    expect(await score(session, undefined, requests)).toEqual(expected);
    const rows = requests.reduce((sum, { context, continuation }) => sum + context.length + continuation.length - 1, 0);
    if (limits.maxTokens > 1) expect(runner.calls.flat().length).toBeLessThan(0.8 * rows);
  });

  test("goes on where the cache was taken for something else in between", async () => {
    const { session } = setup({ maxTokens: 4, maxOutputs: 3 });
    const requests = Array.from({ length: 12 }, (_, i) => ({
      context: [1, 2, 3, 4, 5],
      continuation: [i, i + 1, i + 2, i + 3],
    }));
    const scores = score(session, undefined, requests);
    const text = [1, 2, 3, 9, 9, 8];
    for (let i = 0; i < 9; i++) {
      const { logits } = await session.feed([...text, i]);
      expect(logits).toEqual(await forwardAlone(createFakeRunner({ maxTokens: 64 }), [...text, i]));
    }
    expect(await scores).toEqual(
      await Promise.all(requests.map(({ context, continuation }) => naiveScore(context, continuation))),
    );
  });

  test("reads a string pair as one text and moves the border's spaces to the continuation", async () => {
    const { session } = setup();
    const cases: [string, string, number[], number[]][] = [
      ["hello", " you", fakeTokenizer.encode("hello"), fakeTokenizer.encode(" you", { addBos: false })],
      ["hello ", "you", fakeTokenizer.encode("hello"), fakeTokenizer.encode(" you", { addBos: false })],
      // "s" + "tx" is read as "st", "x": the context keeps its own tokens, the continuation what is left of the whole.
      ["s", "tx", [30, 18], [23]],
      ["", "cd", [30], [2, 3]],
      [" ", "cd", [30], [28, 2, 3]],
    ];
    for (const [context, continuation, contextTokens, tokens] of cases) {
      const [result] = await score(session, fakeTokenizer, [{ context, continuation }]);
      expect(result, JSON.stringify([context, continuation])).toEqual(await naiveScore(contextTokens, tokens));
    }
  });

  test("an empty context is the bos token, which a continuation that starts with it gives up", async () => {
    const { session } = setup();
    expect(await score(session, fakeTokenizer, [{ context: [], continuation: [30, 4] }])).toEqual([
      await naiveScore([30], [4]),
    ]);
    const eosOnly = createSession(createFakeRunner(), { fingerprint: "m", eosTokens: [31] });
    expect(await score(eosOnly, undefined, [{ context: "", continuation: [4] }])).toEqual([
      await naiveScore([31], [4]),
    ]);
  });

  test("too long a context loses its start", async () => {
    const { session } = setup({ contextLength: 16 });
    const context = Array.from({ length: 20 }, (_, i) => i);
    expect(
      await score(session, undefined, [
        { context, continuation: [1, 2, 3] },
        { context, continuation: [1] },
        { context: [5], continuation: context.slice(0, 16) },
      ]),
    ).toEqual([
      await naiveScore(context, [1, 2, 3], 16),
      await naiveScore(context, [1], 16),
      await naiveScore([5], context.slice(0, 16), 16),
    ]);
  });

  test("an abort rejects with its reason, and the session goes on", async () => {
    const { session, runner } = setup();
    const controller = new AbortController();
    runner.onForward = () => controller.abort(new Error("enough"));
    const requests = [{ context: [1, 2, 3], continuation: [4, 5] }];
    await expect(score(session, undefined, requests, { signal: controller.signal })).rejects.toThrow("enough");
    expect(await score(session, undefined, requests)).toEqual([await naiveScore([1, 2, 3], [4, 5])]);
  });

  test("refuses requests without a meaning", async () => {
    const { session } = setup();
    const long = Array.from({ length: 65 }, () => 1);
    await expect(
      score(session, fakeTokenizer, [{ context: "a", continuation: "" }]),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: score: requests[0].continuation: expected 1 to 64 tokens (the context), got 0.]`,
    );
    await expect(
      score(session, undefined, [{ context: [1], continuation: long }]),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: score: requests[0].continuation: expected 1 to 64 tokens (the context), got 65.]`,
    );
    await expect(
      score(session, undefined, [{ context: "a", continuation: [1] }]),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[TypeError: score: requests[0].context: this model came without a tokenizer, got a string. Give an array of token ids.]`,
    );
    await expect(
      score(session, undefined, [{ context: [], continuation: [1] }]),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: score: requests[0].context: must not be empty, as the model has no bos or eos token to stand in.]`,
    );
    await expect(
      score(session, undefined, [{ context: [99], continuation: [1] }]),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: score: requests[0].context: token ids must be whole numbers from 0 to 31, got 99 at index 0. Is the text from another tokenizer?]`,
    );
    await expect(score(session, undefined, [], { progress: 1 } as object)).rejects.toThrowErrorMatchingInlineSnapshot(
      `[TypeError: score: unknown option "progress". Did you mean "onProgress"?]`,
    );
  });
});

describe("logits", () => {
  test("gives a row for each token, whatever the chunks and the cache", async () => {
    const text = Array.from({ length: 21 }, (_, i) => (5 * i) % 32);
    const { session } = setup();
    await session.feed(text.slice(0, 9));
    const rows = await logits(session, text);
    for (let i = 0; i < text.length; i++) {
      const expected = await forwardAlone(createFakeRunner({ maxTokens: 64 }), text.slice(0, i + 1));
      expect(rows.slice(32 * i, 32 * i + 32)).toEqual(expected);
    }
    expect(await logits(session, [])).toEqual(new Float32Array(0));
    await expect(
      logits(
        session,
        Array.from({ length: 65 }, () => 1),
      ),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: logits: expected at most 64 tokens (the context), got 65.]`,
    );
  });
});

describe("perplexity", () => {
  const text = Array.from({ length: 60 }, (_, i) => (11 * i * i) % 32);

  test("predicts each token but the first once, from its own window", async () => {
    for (const [window, stride] of [
      [7, 7],
      [7, 3],
      [16, 1],
      [16, undefined],
      [64, undefined],
    ] as const) {
      const { session } = setup();
      let nll = 0;
      let done = 0;
      for (let start = 0; done < 59; start += stride ?? window) {
        for (; done < Math.min(start + window, 59); done++) {
          const row = await forwardAlone(createFakeRunner({ maxTokens: 64 }), text.slice(start, done + 1));
          nll += logSumExp(row) - row[text[done + 1]!]!;
        }
      }
      const result = await perplexity(session, text, { window, stride });
      expect(result).toEqual({
        nll: expect.closeTo(nll, 9),
        tokens: 59,
        perplexity: expect.closeTo(Math.exp(nll / 59), 9),
      });
    }
  });

  test("refuses options out of range", async () => {
    const { session } = setup();
    await expect(perplexity(session, text, { window: 65 })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: perplexity.window: expected a whole number from 1 to 64, got 65.]`,
    );
    await expect(perplexity(session, text, { window: 8, stride: 9 })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: perplexity.stride: expected a whole number from 1 to 8, got 9.]`,
    );
    await expect(perplexity(session, [1])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: perplexity: expected at least 2 tokens, got 1.]`,
    );
  });
});
