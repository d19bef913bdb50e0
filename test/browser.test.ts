/**
 * dist/ in a real browser, Chromium, with and without cross-origin isolation: what a page computes is what Node computes,
 * bit for bit. Needs a build, and Chromium (see browser/pages.ts).
 */
import { type Dtype, loadModel } from "mobilellm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openPages, type Pages } from "./support/browser/pages.ts";
import { makeTinyCheckpoint, type TinyCheckpoint, VOCAB_SIZE } from "./support/browser/tiny-checkpoint.ts";
import { createRandom } from "../src/random.ts";

const random = createRandom(11);
/** Longer than one replay of 64 tokens and off the vector size. */
const prompt = Array.from({ length: 77 }, () => random.below(VOCAB_SIZE));
const NEW_TOKENS = 24;

/** What the page's script leaves for the functions that run in it. */
type PageGlobals = { readonly loadModel: typeof loadModel; readonly fetchCheckpoint: () => Promise<TinyCheckpoint> };

type Outcome = { readonly description: string; readonly logits: string; readonly tokens: readonly number[] };
type Request = { readonly dtype: Dtype; readonly prompt: readonly number[]; readonly maxTokens: number };
type Ticks = Record<"tokens" | "elapsedMs" | "ticks" | "longestGapMs", number>;

let checkpoint: TinyCheckpoint;
let pages: Pages;

beforeAll(async () => {
  checkpoint = await makeTinyCheckpoint(7);
  pages = await openPages(checkpoint);
});

afterAll(() => pages?.close());

/** Runs in the page, so it uses nothing from around it. */
async function runInPage({ dtype, prompt, maxTokens }: Request): Promise<Outcome> {
  const { loadModel, fetchCheckpoint } = globalThis as unknown as PageGlobals;
  const model = await loadModel(await fetchCheckpoint(), { dtype, threads: 2 });
  const logits = await model.logits(prompt);
  const { tokens } = await model.generate(prompt, { temperature: 0, maxTokens, ignoreEos: true }).result;
  await model.dispose();
  const bytes = Array.from(new Uint8Array(logits.buffer, logits.byteOffset, logits.byteLength));
  return {
    description: model.description,
    logits: btoa(bytes.map((byte) => String.fromCharCode(byte)).join("")),
    tokens,
  };
}

/** Runs in the page: counts a timer's ticks from the first forward pass to the last. */
async function tickWhileGenerating({ dtype, prompt, maxTokens }: Request): Promise<Ticks> {
  const { loadModel, fetchCheckpoint } = globalThis as unknown as PageGlobals;
  const model = await loadModel(await fetchCheckpoint(), { dtype, threads: 2 });
  const startedAt = performance.now();
  let [ticks, last, longestGapMs] = [0, startedAt, 0];
  const tick = (): void => {
    const now = performance.now();
    longestGapMs = Math.max(longestGapMs, now - last);
    last = now;
    ticks++;
  };
  const timer = setInterval(tick, 5);
  const { tokens } = await model.generate(prompt, { temperature: 0, maxTokens, ignoreEos: true }).result;
  clearInterval(timer);
  tick();
  await model.dispose();
  return { tokens: tokens.length, elapsedMs: last - startedAt, ticks, longestGapMs };
}

async function runInNode({ dtype, prompt, maxTokens }: Request): Promise<Outcome> {
  const model = await loadModel(checkpoint, { dtype, threads: 2 });
  try {
    const logits = await model.logits(prompt);
    const { tokens } = await model.generate(prompt, { temperature: 0, maxTokens, ignoreEos: true }).result;
    return {
      description: model.description,
      logits: Buffer.from(logits.buffer, logits.byteOffset, logits.byteLength).toString("base64"),
      tokens,
    };
  } finally {
    await model.dispose();
  }
}

/** How many values differ and the first of them: a readable failure instead of two base64 texts. */
function difference(actual: string, expected: string): string {
  const words = (text: string): Uint32Array => new Uint32Array(new Uint8Array(Buffer.from(text, "base64")).buffer);
  const [a, b] = [words(actual), words(expected)];
  if (a.length !== b.length) return `${a.length} values instead of ${b.length}`;
  const at = [...a.keys()].filter((i) => a[i] !== b[i]);
  return at.length === 0 ? "none" : `${at.length} of ${a.length} values, first ${at[0]}`;
}

describe.each([
  ["isolated", true, "2 threads"],
  ["plain", false, "1 thread"],
] as const)("a page that is %s", (kind, isIsolated, threads) => {
  it("is cross-origin isolated only with the headers", async () => {
    expect(await pages.withPage(kind, (page) => page.evaluate(() => globalThis.crossOriginIsolated))).toBe(isIsolated);
  });

  it.each(["f32", "q8"] as const)("computes in %s what Node computes, bit for bit", async (dtype) => {
    const request = { dtype, prompt, maxTokens: NEW_TOKENS };
    const inNode = await runInNode(request);
    const inPage = await pages.withPage(kind, (page) => page.evaluate(runInPage, request));

    expect(inNode.description).toBe("wasm (relaxed SIMD, 2 threads)");
    expect(inPage.description).toBe(`wasm (relaxed SIMD, ${threads})`);
    expect(Buffer.from(inNode.logits, "base64")).toHaveLength(4 * prompt.length * VOCAB_SIZE);
    expect(difference(inPage.logits, inNode.logits)).toBe("none");
    expect(inPage.tokens).toHaveLength(NEW_TOKENS);
    expect(inPage.tokens).toEqual(inNode.tokens);
  });

  it("keeps its main thread free while it computes", async () => {
    const request: Request = { dtype: "f32", prompt, maxTokens: 800 };
    const { tokens, elapsedMs, ticks, longestGapMs } = await pages.withPage(kind, (page) =>
      page.evaluate(tickWhileGenerating, request),
    );
    expect(tokens).toBe(800);
    expect(ticks).toBeGreaterThan(10);
    expect(longestGapMs).toBeLessThan(elapsedMs / 4);
  });

  it("reports a damaged file as a FormatError", async () => {
    const name = await pages.withPage(kind, (page) =>
      page.evaluate(async () => {
        const { loadModel } = globalThis as unknown as PageGlobals;
        const files = { "config.json": new Uint8Array(3), "model.safetensors": new Uint8Array(3) };
        return loadModel(files).then(
          () => "nothing",
          (error: Error) => error.name,
        );
      }),
    );
    expect(name).toBe("FormatError");
  });
});
