import { describe, expect, test } from "vitest";
import { createFakeRunner, fakeTokenizer, type FakeRunner, forwardAlone } from "../../test/support/fake-runner.ts";
import { generate, type GenerateOptions, type GenerationPiece, type GenerationResult } from "./generate.ts";
import { argmax, logSumExp } from "./log-softmax.ts";
import { createSession, type Session } from "./session.ts";

function setup(options: Parameters<typeof createFakeRunner>[0] = {}): { runner: FakeRunner; session: Session } {
  const runner = createFakeRunner(options);
  return { runner, session: createSession(runner, { fingerprint: "m" }) };
}

async function collect(generation: AsyncIterable<GenerationPiece>): Promise<GenerationPiece[]> {
  const pieces: GenerationPiece[] = [];
  for await (const piece of generation) pieces.push(piece);
  return pieces;
}

const greedy: GenerateOptions = { temperature: 0, ignoreEos: true };
const prompt = [30, 1, 2, 3];

/** Greedy decoding without a cache. */
async function naiveGreedy(count: number): Promise<{ token: number; logprob: number }[]> {
  const context = [...prompt];
  const result: { token: number; logprob: number }[] = [];
  while (result.length < count) {
    const logits = await forwardAlone(createFakeRunner({ maxTokens: 64 }), context);
    const token = argmax(logits);
    result.push({ token, logprob: logits[token]! - logSumExp(logits) });
    context.push(token);
  }
  return result;
}

describe("generate", () => {
  test("with the cache makes the same tokens and log-probabilities as without", async () => {
    const { session } = setup();
    const pieces = await collect(generate(session, undefined, prompt, { ...greedy, maxTokens: 40 }));
    expect(pieces).toEqual((await naiveGreedy(40)).map((piece) => ({ text: "", ...piece })));
  });

  test("counts tokens, and takes a known prompt from the cache", async () => {
    const { session } = setup();
    const first = await generate(session, undefined, prompt, { ...greedy, maxTokens: 5 }).result;
    expect(first).toMatchObject({
      finishReason: "length",
      usage: { promptTokens: 4, cachedTokens: 0, completionTokens: 5 },
    });
    expect("stop" in first).toBe(false);
    const next = [...prompt, ...first.tokens, 7];
    const second = await generate(session, undefined, next, { ...greedy, maxTokens: 1 }).result;
    // The fifth token was never run.
    expect(second.usage).toEqual({ promptTokens: 10, cachedTokens: 8, completionTokens: 1 });
  });

  test("one seed gives one text", async () => {
    const text = async (seed: number): Promise<string> =>
      (await generate(setup().session, fakeTokenizer, "hello", { seed, ignoreEos: true, maxTokens: 30 }).result).text;
    expect(await text(1)).toBe(await text(1));
    expect(await text(1)).not.toBe(await text(2));
  });

  test("the pieces' texts add up to the result's, which is also the return value", async () => {
    const generation = generate(setup().session, fakeTokenizer, "hello", { seed: 3, ignoreEos: true, maxTokens: 20 });
    let text = "";
    let item = await generation.next();
    for (; !item.done; item = await generation.next()) text += item.value.text;
    expect(item.value).toBe(await generation.result);
    expect(item.value!.text).toBe(text);
    expect(text).not.toBe("");
    expect(await generation.next()).toEqual({ done: true, value: undefined });
  });

  test("a stop string ends the text wherever the token borders lie", async () => {
    const options = { seed: 5, ignoreEos: true, maxTokens: 40 };
    const { text: whole } = await generate(setup().session, fakeTokenizer, "hello", options).result;
    for (let start = 0; start + 4 < whole.length; start++) {
      const stop = whole.slice(start, start + 4);
      const generation = generate(setup().session, fakeTokenizer, "hello", { ...options, stop: ["zzzzz", stop] });
      const shown = (await collect(generation)).map((piece) => piece.text).join("");
      expect(shown).toBe(whole.slice(0, whole.indexOf(stop)));
      expect(await generation.result).toMatchObject({ finishReason: "stop", stop, text: shown });
    }
  });

  test("text held back for a stop string that doesn't come is shown at the end", async () => {
    const options = { seed: 5, ignoreEos: true, maxTokens: 12 };
    const { text: whole } = await generate(setup().session, fakeTokenizer, "hello", options).result;
    const stop = `${whole.slice(-3)}never`;
    const result = await generate(setup().session, fakeTokenizer, "hello", { ...options, stop }).result;
    expect(result).toMatchObject({ text: whole, finishReason: "length" });
  });

  test("an end-of-text token ends the text and is counted, unless it is to be ignored", async () => {
    const token = (await naiveGreedy(6))[5]!.token;
    const runner = createFakeRunner();
    const session = createSession(runner, { fingerprint: "m", eosTokens: [token] });
    const result = await generate(session, undefined, prompt, { temperature: 0 }).result;
    expect(result.finishReason).toBe("eos");
    expect(result.tokens.at(-1)).toBe(token);
    expect(result.tokens.indexOf(token)).toBe(result.tokens.length - 1);
    const more = await generate(session, undefined, prompt, { ...greedy, maxTokens: 20 }).result;
    expect(more.finishReason).toBe("length");
  });

  test("stops at the context's end, or slides on when asked", async () => {
    const { session, runner } = setup({ contextLength: 16 });
    const stopped = await generate(session, undefined, prompt, greedy).result;
    expect(stopped).toMatchObject({ finishReason: "context", usage: { completionTokens: 12 } });
    const slid = await generate(session, undefined, prompt, { ...greedy, contextOverflow: "slide", maxTokens: 50 })
      .result;
    expect(slid.usage.completionTokens).toBe(50);
    expect(slid.tokens.slice(0, 12)).toEqual(stopped.tokens);
    // After the slide: two of the prompt and the newest eight.
    const fed = runner.calls.filter((call) => call.length === 8).at(0);
    expect(fed).toEqual(slid.tokens.slice(4, 12));
    expect(session.tokens.slice(0, 2)).toEqual(prompt.slice(0, 2));
  });

  test("an abort during prefill or decoding rejects with its reason and leaves the session sound", async () => {
    const expected = (await naiveGreedy(10)).map((piece) => piece.token);
    for (const call of [1, 2, 5]) {
      const { session, runner } = setup({ maxTokens: 3 });
      const controller = new AbortController();
      runner.onForward = () => {
        if (runner.calls.length === call) controller.abort(new Error("user left"));
      };
      const generation = generate(session, undefined, prompt, { ...greedy, signal: controller.signal });
      await expect(collect(generation)).rejects.toThrow("user left");
      await expect(generation.result).rejects.toThrow("user left");
      const again = await generate(session, undefined, prompt, { ...greedy, maxTokens: 10 }).result;
      expect(again.tokens).toEqual(expected);
    }
    const aborted = generate(setup().session, undefined, prompt, { signal: AbortSignal.abort(new Error("before")) });
    await expect(aborted.next()).rejects.toThrow("before");
  });

  test("leaving the loop early frees the session at once and tells what was made", async () => {
    const { session } = setup();
    const generation = generate(session, undefined, prompt, greedy);
    let count = 0;
    for await (const _ of generation) if (++count === 3) break;
    const expected = (await naiveGreedy(10)).map((piece) => piece.token);
    expect(await generation.result).toMatchObject({ finishReason: "break", tokens: expected.slice(0, 3) });
    const turn = await session.acquire(AbortSignal.timeout(20));
    turn.release();
    const again = await generate(session, undefined, prompt, { ...greedy, maxTokens: 10 }).result;
    expect(again.tokens).toEqual(expected);

    const unused = generate(session, undefined, prompt, greedy);
    await unused.return();
    expect((await unused.result).tokens).toEqual([]);
  });

  test("the result may be read before, during or after the loop", async () => {
    const expected = (await naiveGreedy(6)).map((piece) => piece.token);
    const before = generate(setup().session, undefined, prompt, { ...greedy, maxTokens: 6 });
    const early = before.result;
    expect((await collect(before)).map((piece) => piece.token)).toEqual(expected);
    expect((await early).tokens).toEqual(expected);

    const during = generate(setup().session, undefined, prompt, { ...greedy, maxTokens: 6 });
    const seen: number[] = [];
    let result: GenerationResult | undefined;
    for await (const piece of during) {
      seen.push(piece.token);
      result ??= await during.result;
    }
    expect(seen).toEqual(expected);
    expect(result!.tokens).toEqual(expected);
  });

  test("two at once on one session give what each gives alone", async () => {
    const { session } = setup();
    const options = { ...greedy, maxTokens: 12 };
    const alone = await Promise.all([
      collect(generate(setup().session, undefined, prompt, options)),
      collect(generate(setup().session, undefined, [30, 9], options)),
    ]);
    const together = await Promise.all([
      collect(generate(session, undefined, prompt, options)),
      collect(generate(session, undefined, [30, 9], options)),
    ]);
    expect(together).toEqual(alone);
  });

  test("the body of a loop may use the same session", async () => {
    const { session } = setup();
    const outer: number[] = [];
    for await (const piece of generate(session, undefined, prompt, { ...greedy, maxTokens: 4 })) {
      outer.push(piece.token);
      const inner = await generate(session, undefined, [30, 9], { ...greedy, maxTokens: 2 }).result;
      expect(inner.tokens.length).toBe(2);
    }
    expect(outer).toEqual((await naiveGreedy(4)).map((piece) => piece.token));
  });

  test("refuses wrong arguments", () => {
    const { session } = setup();
    const message = (options: object, text: string | number[] = "abc", tokenizer?: typeof fakeTokenizer): string => {
      try {
        generate(session, tokenizer, text, options);
      } catch (error) {
        return String(error);
      }
      return "accepted";
    };
    expect([
      ...[
        { maxTokens: 0 },
        { maxTokens: "5" },
        { temperature: -1 },
        { stop: [""] },
        { stop: [1] },
        { stop: 1 },
        { ignoreEos: 1 },
        { contextOverflow: "loop" },
        { signal: {} },
        { maxTokenz: 4 },
        { maxTokens: undefined, stop: "x", signal: undefined },
      ].map((options) => message(options, "abc", fakeTokenizer)),
      message({}),
      message({ stop: "x" }, [1]),
      message({}, []),
      message({}, [1, -1]),
      message(
        {},
        Array.from({ length: 64 }, () => 1),
      ),
      message({}, 5 as unknown as string),
    ]).toMatchInlineSnapshot(`
      [
        "RangeError: generate.maxTokens: expected a whole number of 1 or more, got 0.",
        "TypeError: generate.maxTokens: expected a whole number of 1 or more, got "5".",
        "RangeError: generate.temperature: expected a number of 0 or more, got -1.",
        "RangeError: generate.stop[0]: expected a string that is not empty, got "".",
        "TypeError: generate.stop[0]: expected a string, got 1.",
        "TypeError: generate.stop: expected a string or a list, got 1.",
        "TypeError: generate.ignoreEos: expected true or false, got 1.",
        "RangeError: generate.contextOverflow: expected one of stop, slide, got "loop".",
        "TypeError: generate.signal: expected an AbortSignal, got {}.",
        "TypeError: generate: unknown option "maxTokenz". Did you mean "maxTokens"?",
        "accepted",
        "TypeError: generate: this model came without a tokenizer, got a string. Give an array of token ids.",
        "TypeError: stop: this model came without a tokenizer, so no text can be compared. Use maxTokens.",
        "RangeError: generate: the prompt must have at least one token, got none. Start with the bos token.",
        "RangeError: generate: token ids must be whole numbers from 0 to 31, got -1 at index 1. Is the text from another tokenizer?",
        "RangeError: generate: the prompt must leave room in the context of 64 tokens, got 64 tokens. Shorten it, or load the model with a longer contextLength.",
        "TypeError: generate: expected a string or an array of token ids, got 5.",
      ]
    `);
  });
});
