/**
 * Whole models against goldens from transformers and torch (test/fixtures/models), on every device and thread count; and
 * what must hold to the bit: threads, chunks and the history of the cache change no number.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Device, type Dtype, loadModel, type Model, type NodeModelOptions, type Sharing } from "mobilellm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

type Golden = {
  readonly folder: string;
  readonly sharing: Sharing;
  readonly cases: readonly {
    readonly tokens: readonly number[];
    readonly last_logits: readonly number[];
    readonly argmax: readonly number[];
  }[];
  readonly greedy: { readonly prompt: readonly number[]; readonly tokens: readonly number[] };
};

const fixtures = new URL("fixtures/models/", import.meta.url);
const goldens = (JSON.parse(readFileSync(new URL("golden.json", fixtures), "utf8")) as { models: Golden[] }).models;

const devices: readonly (readonly [string, Device, number])[] = [
  ["wasm with 1 thread", "wasm", 1],
  ["wasm with 2 threads", "wasm", 2],
  ["the reference device", "reference", 1],
];

/** f32 sums in another order than torch's, through at most eight blocks. */
const F32_TOLERANCE = 1e-4;
/** Both devices compute from the same rounded weights; activations may round to the other side of a half. */
const DTYPE_TOLERANCE = 2e-3;

function titleOf({ folder, sharing: { kind, repeats, cache } }: Golden): string {
  return kind === "none" ? folder : `${folder}, ${kind} ×${repeats}, ${cache} keys and values`;
}

function open({ folder, sharing }: Golden, options: NodeModelOptions): Promise<Model> {
  return loadModel(fileURLToPath(new URL(folder, fixtures)), { sharing, ...options });
}

/** Opens a model, and disposes of it whatever happens. */
async function withModel<T>(
  golden: Golden,
  options: NodeModelOptions,
  use: (model: Model) => Promise<T> | T,
): Promise<T> {
  const model = await open(golden, options);
  try {
    return await use(model);
  } finally {
    await model.dispose();
  }
}

function lastRow(logits: Float32Array, model: Model): Float32Array {
  return logits.subarray(logits.length - model.config.vocabSize);
}

function argmaxOfRows(logits: Float32Array, cols: number): number[] {
  return Array.from({ length: logits.length / cols }, (_, row) => {
    const values = logits.subarray(row * cols, (row + 1) * cols);
    return values.indexOf(Math.max(...values));
  });
}

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    if (!(difference <= largest)) largest = difference; // NaN too
  }
  return largest;
}

function bits(values: Float32Array): Uint32Array {
  return new Uint32Array(values.slice().buffer);
}

/** As long as one replay and a part of the next; every token of the vocabulary. */
function longPrompt({ config }: Model): number[] {
  return Array.from({ length: 80 }, (_, i) => (i * 17 + 5) % config.vocabSize);
}

describe.each(goldens.map((golden) => [titleOf(golden), golden] as const))("%s", (_, golden) => {
  describe.each<Dtype>(["f32", "bf16", "q8", "q4"])("in %s", (dtype) => {
    const models = new Map<string, Model>();
    let model: Model;
    let prompt: number[];
    let whole: Float32Array;
    beforeAll(async () => {
      await Promise.all(
        devices.map(async ([on, device, threads]) => {
          models.set(on, await open(golden, { device, threads, dtype }));
        }),
      );
      model = models.get("wasm with 2 threads")!;
      prompt = longPrompt(model);
      whole = await model.logits(prompt);
    });
    afterAll(async () => {
      await Promise.all([...models.values()].map((model) => model.dispose()));
    });

    if (dtype === "f32") {
      describe.each(devices)("on %s", (on) => {
        it.each(golden.cases)("gives the golden logits for a prompt of length $tokens.length", async (expected) => {
          const model = models.get(on)!;
          const logits = await model.logits(expected.tokens);
          expect(largestDifference(lastRow(logits, model), expected.last_logits)).toBeLessThan(F32_TOLERANCE);
          expect(argmaxOfRows(logits, model.config.vocabSize)).toEqual(expected.argmax);
        });

        it("continues a prompt greedily as the golden does", async () => {
          const { prompt, tokens } = golden.greedy;
          const options = { temperature: 0, maxTokens: tokens.length, ignoreEos: true };
          const result = await models.get(on)!.generate(prompt, options).result;
          expect(result.tokens).toEqual(tokens);
          expect(result.finishReason).toBe("length");
        });
      });
    }

    it("has the logits of the reference device", async () => {
      expect(model.dtype).toBe(dtype);
      const expected = await models.get("the reference device")!.logits(prompt);
      expect(largestDifference(whole, expected)).toBeLessThan(dtype === "f32" ? F32_TOLERANCE : DTYPE_TOLERANCE);
    });

    it("gives the same bits with one thread as with two", async () => {
      expect(bits(await models.get("wasm with 1 thread")!.logits(prompt))).toEqual(bits(whole));
    });

    it("ends a prompt fed at once in the same bits as one read at every position", async () => {
      await model.session.feed([prompt[0]! + 1]); // shares nothing
      const { logits, cachedTokens } = await model.session.feed(prompt);
      expect(cachedTokens).toBe(0);
      expect(bits(logits)).toEqual(bits(lastRow(whole, model)));
    });

    it("gives the same bits for a prompt in pieces as for the whole", async () => {
      for (const lengths of [[1], [7, 37], [63, 64, 65], [2, 5, 9, 14, 20, 79]]) {
        await model.session.feed([prompt[0]! + 1]);
        for (const length of [...lengths, prompt.length]) {
          const { logits } = await model.session.feed(prompt.slice(0, length));
          const at = (length - 1) * model.config.vocabSize;
          expect(bits(logits)).toEqual(bits(whole.subarray(at, at + model.config.vocabSize)));
        }
      }
    });

    it("gives the same bits for tokens one by one as for the whole", async () => {
      await model.session.feed([prompt[0]! + 1]);
      const rows: number[] = [];
      for (let length = 1; length <= 40; length++) {
        const { logits, cachedTokens } = await model.session.feed(prompt.slice(0, length));
        expect(cachedTokens).toBe(length - 1);
        rows.push(...logits);
      }
      expect(bits(Float32Array.from(rows))).toEqual(bits(whole.subarray(0, rows.length)));
    });

    it("gives the same bits whatever text the cache held before", async () => {
      const branch = [...prompt.slice(0, 21), ...prompt.slice(30, 50)];
      await model.generate(branch, { temperature: 0, maxTokens: 11, ignoreEos: true }).result;
      expect(bits(await model.logits(prompt))).toEqual(bits(whole));
      await model.score([
        { context: prompt.slice(0, 13), continuation: branch.slice(5, 20) },
        { context: branch.slice(0, 33), continuation: prompt.slice(0, 3) },
      ]);
      const { logits, cachedTokens } = await model.session.feed(prompt);
      expect(cachedTokens).toBe(21);
      expect(bits(logits)).toEqual(bits(lastRow(whole, model)));
    });

    it("generates what feeding its own choices gives", async () => {
      const start = prompt.slice(0, 9);
      const { tokens } = await model.generate(start, { temperature: 0, maxTokens: 12, ignoreEos: true }).result;
      const logits = await model.logits([...start, ...tokens]);
      expect(argmaxOfRows(logits, model.config.vocabSize).slice(start.length - 1, -1)).toEqual(tokens);
    });
  });
});

describe("a config that says layer_sharing", () => {
  const find = (kind: Sharing["kind"], cache: Sharing["cache"]): Golden =>
    goldens.find(({ folder, sharing }) => {
      return folder === "layer-sharing" && sharing.kind === kind && sharing.cache === cache;
    })!;
  const twice = find("immediate", "own");

  it("applies each block twice in a row when nothing else is asked for", async () => {
    await withModel(twice, { device: "wasm", threads: 1, sharing: undefined }, async (model) => {
      expect(model.config.sharing).toEqual(twice.sharing);
      const { tokens, last_logits } = twice.cases[1]!;
      const logits = await model.logits(tokens);
      expect(largestDifference(lastRow(logits, model), last_logits)).toBeLessThan(F32_TOLERANCE);
    });
  });

  it("needs half the cache when repeated blocks read the first one's keys and values", async () => {
    const caches: number[] = [];
    for (const cache of ["own", "first"] as const) {
      await withModel(
        find("immediate", cache),
        { device: "reference" },
        (model) => void caches.push(model.memory.cache),
      );
    }
    expect(caches[0]).toBe(2 * caches[1]!);
  });
});
