import { describe, expect, test } from "vitest";
import { createFakeRunner, forwardAlone } from "../../test/support/fake-runner.ts";
import { FormatError } from "../errors.ts";
import { createRandom } from "../random.ts";
import { createSession } from "./session.ts";

const text = Array.from({ length: 21 }, (_, i) => (7 * i) % 32);

async function naiveLogits(tokens: number[]): Promise<Float32Array> {
  return forwardAlone(createFakeRunner({ maxTokens: 64 }), tokens);
}

describe("session", () => {
  test("token by token, in chunks and as a whole give the same logits", async () => {
    const expected = await naiveLogits(text);
    for (const maxTokens of [1, 2, 5, 21, 64]) {
      const runner = createFakeRunner({ maxTokens });
      expect((await createSession(runner, { fingerprint: "m" }).feed(text)).logits).toEqual(expected);
    }
    const session = createSession(createFakeRunner(), { fingerprint: "m" });
    for (let i = 1; i < text.length; i++) await session.feed(text.slice(0, i));
    expect((await session.feed(text)).logits).toEqual(expected);
  });

  test("runs only what follows the shared start, and always the last token", async () => {
    const runner = createFakeRunner();
    const session = createSession(runner, { fingerprint: "m" });
    const progress: unknown[] = [];
    await session.feed(text.slice(0, 18), { onPrefill: (step) => progress.push(step) });
    expect(progress).toEqual([
      { done: 8, total: 18 },
      { done: 16, total: 18 },
      { done: 18, total: 18 },
    ]);
    expect((await session.feed(text.slice(0, 18))).cachedTokens).toBe(17);
    expect((await session.feed(text.slice(0, 10))).cachedTokens).toBe(9);
    expect(session.tokens).toEqual(text.slice(0, 10));
    const other = [...text.slice(0, 4), 31, 30];
    const fed = await session.feed(other);
    expect(fed.cachedTokens).toBe(4);
    expect(fed.logits).toEqual(await naiveLogits(other));
    expect(runner.calls.at(-1)).toEqual([31, 30]);
  });

  test("an abort in the middle of a prefill leaves what was done, and the session goes on", async () => {
    const runner = createFakeRunner();
    const session = createSession(runner, { fingerprint: "m" });
    const controller = new AbortController();
    runner.onForward = () => {
      if (runner.calls.length === 2) controller.abort(new Error("enough"));
    };
    await expect(session.feed(text, { signal: controller.signal })).rejects.toThrow("enough");
    expect(session.tokens).toEqual(text.slice(0, 8));
    const fed = await session.feed(text);
    expect(fed).toEqual({ cachedTokens: 8, logits: await naiveLogits(text) });
  });

  test("waits in line, and an abort leaves the line", async () => {
    const session = createSession(createFakeRunner(), { fingerprint: "m" });
    const controller = new AbortController();
    const first = session.feed(text);
    const second = session.feed(text.slice(3), { signal: controller.signal });
    const third = session.feed([5, 6]);
    controller.abort(new Error("no time"));
    await expect(second).rejects.toThrow("no time");
    expect((await first).logits).toEqual(await naiveLogits(text));
    expect((await third).logits).toEqual(await naiveLogits([5, 6]));
    await expect(session.feed([1], { signal: controller.signal })).rejects.toThrow("no time");
  });

  test("refuses tokens that the model or its context doesn't have", async () => {
    const session = createSession(createFakeRunner(), { fingerprint: "m" });
    await expect(session.feed([1, 32])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: feed: token ids must be whole numbers from 0 to 31, got 32 at index 1. Is the text from another tokenizer?]`,
    );
    await expect(session.feed([])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: feed: expected 1 to 64 tokens (the context), got 0.]`,
    );
    await expect(session.feed(Array.from({ length: 65 }, () => 0))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: feed: expected 1 to 64 tokens (the context), got 65.]`,
    );
    await expect(session.feed([1], { onprefill: 1 } as object)).rejects.toThrowErrorMatchingInlineSnapshot(
      `[TypeError: feed: unknown option "onprefill". Did you mean "onPrefill"?]`,
    );
  });

  test("saved and restored, it goes on as if it had never stopped", async () => {
    const session = createSession(createFakeRunner(), { fingerprint: "m" });
    const empty = await session.save();
    await session.feed(text.slice(0, 20));
    const bytes = await session.save();
    const other = createSession(createFakeRunner(), { fingerprint: "m" });
    await other.feed([9, 9, 9]);
    // At an address that isn't a multiple of four.
    const shifted = new Uint8Array(bytes.length + 1);
    shifted.set(bytes, 1);
    await other.restore(shifted.subarray(1));
    expect(await other.feed(text)).toEqual({ cachedTokens: 20, logits: await naiveLogits(text) });
    await other.restore(empty);
    expect(other.tokens).toEqual([]);
  });

  test("refuses saved bytes of other weights under the same name", async () => {
    const session = createSession(createFakeRunner(), { fingerprint: "m" });
    await session.feed([1, 2, 3, 4, 5]);
    const bytes = await session.save();
    const other = createFakeRunner();
    other.digest = async () => "fedcba9876543210";
    await expect(createSession(other, { fingerprint: "m" }).restore(bytes)).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: saved session: belongs to the model "m, weights 0123456789abcdef", this one is "m, weights fedcba9876543210". Load that model, or feed the text again.]`,
    );
  });

  test("forgets what it holds when the weights have changed", async () => {
    const runner = createFakeRunner();
    const session = createSession(runner, { fingerprint: "m" });
    await session.feed([1, 2, 3, 4, 5]);
    expect((await session.feed([1, 2, 3, 4, 5, 6])).cachedTokens).toBe(5);
    runner.version++;
    expect((await session.feed([1, 2, 3, 4, 5, 6, 7])).cachedTokens).toBe(0);
  });

  test("refuses saved bytes of another model, cut short or changed", async () => {
    const session = createSession(createFakeRunner(), { fingerprint: "125M q8" });
    await session.feed(text);
    const bytes = await session.save();
    const restore = async (changed: Uint8Array): Promise<void> =>
      createSession(createFakeRunner(), { fingerprint: "125M q8" }).restore(changed);
    await restore(bytes);
    for (let length = 0; length < bytes.length; length++) {
      await expect(restore(bytes.slice(0, length))).rejects.toThrow(FormatError);
    }
    const random = createRandom(6);
    for (let i = 0; i < 1000; i++) {
      const changed = bytes.slice();
      changed[random.below(bytes.length)]! ^= 1 << random.below(8);
      await expect(restore(changed)).rejects.toThrow(FormatError);
    }
    await expect(restore(bytes.slice(0, 100))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: saved session: needs 240 bytes, got 100. It was cut short or damaged; save it again.]`,
    );
    await expect(restore(new Uint8Array(80))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: saved session: expected the bytes that save gave, got 80 bytes of another kind.]`,
    );
    const changed = bytes.slice();
    changed[50]! ^= 1;
    await expect(restore(changed)).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: saved session: the checksum does not match, so the bytes are damaged. Save it again.]`,
    );
    await expect(
      createSession(createFakeRunner(), { fingerprint: "350M f32" }).restore(bytes),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: saved session: belongs to the model "125M q8, weights 0123456789abcdef", this one is "350M f32, weights 0123456789abcdef". Load that model, or feed the text again.]`,
    );
    await expect(
      createSession(createFakeRunner({ contextLength: 16 }), { fingerprint: "125M q8" }).restore(bytes),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: saved session: holds 21 tokens, the context takes 16. Load the model with a longer contextLength.]`,
    );
  });
});
