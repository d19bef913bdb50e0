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
  ["on wasm with 1 thread", "wasm", 1],
  ["on wasm with 2 threads", "wasm", 2],
  ["on the reference device", "reference", 1],
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
  describe.each(devices)("%s", (_, device, threads) => {
    let model: Model;
    beforeAll(async () => {
      model = await open(golden, { device, threads });
    });
    afterAll(() => model?.dispose());

    it.each(golden.cases)("gives the golden logits for a prompt of length $tokens.length", async (expected) => {
      const logits = await model.logits(expected.tokens);
      expect(largestDifference(lastRow(logits, model), expected.last_logits)).toBeLessThan(F32_TOLERANCE);
      expect(argmaxOfRows(logits, model.config.vocabSize)).toEqual(expected.argmax);
    });

    it("continues a prompt greedily as the golden does", async () => {
      const { prompt, tokens } = golden.greedy;
      const result = await model.generate(prompt, { temperature: 0, maxTokens: tokens.length, ignoreEos: true }).result;
      expect(result.tokens).toEqual(tokens);
      expect(result.finishReason).toBe("length");
    });
  });

  describe.each<Dtype>(["f32", "q8", "q4"])("to the bit in %s", (dtype) => {
    let model: Model;
    let prompt: number[];
    let whole: Float32Array;
    beforeAll(async () => {
      model = await open(golden, { device: "wasm", threads: 2, dtype });
      prompt = longPrompt(model);
      whole = await model.logits(prompt);
    });
    afterAll(() => model?.dispose());

    it("one thread gives the logits of two", async () => {
      const other = await withModel(golden, { device: "wasm", threads: 1, dtype }, (model) => model.logits(prompt));
      expect(bits(other)).toEqual(bits(whole));
    });

    it("a prompt at once ends in the logits that were read at every position", async () => {
      await model.session.feed([prompt[0]! + 1]); // shares nothing
      const { logits, cachedTokens } = await model.session.feed(prompt);
      expect(cachedTokens).toBe(0);
      expect(bits(logits)).toEqual(bits(lastRow(whole, model)));
    });

    it("a prompt in pieces ends in the logits of the whole", async () => {
      for (const lengths of [[1], [7, 37], [63, 64, 65], [2, 5, 9, 14, 20, 79]]) {
        await model.session.feed([prompt[0]! + 1]);
        for (const length of [...lengths, prompt.length]) {
          const { logits } = await model.session.feed(prompt.slice(0, length));
          const at = (length - 1) * model.config.vocabSize;
          expect(bits(logits)).toEqual(bits(whole.subarray(at, at + model.config.vocabSize)));
        }
      }
    });

    it("tokens one by one give every logit of the whole", async () => {
      await model.session.feed([prompt[0]! + 1]);
      const rows: number[] = [];
      for (let length = 1; length <= 40; length++) {
        const { logits, cachedTokens } = await model.session.feed(prompt.slice(0, length));
        expect(cachedTokens).toBe(length - 1);
        rows.push(...logits);
      }
      expect(bits(Float32Array.from(rows))).toEqual(bits(whole.subarray(0, rows.length)));
    });

    it("other text in the cache leaves no trace in the logits", async () => {
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

  it.each<Dtype>(["q8", "q4", "bf16"])("has the logits of the reference device in %s", async (dtype) => {
    const { tokens } = golden.cases.at(-1)!;
    const expected = await withModel(golden, { device: "reference", dtype }, (model) => model.logits(tokens));
    await withModel(golden, { device: "wasm", threads: 2, dtype }, async (model) => {
      expect(model.dtype).toBe(dtype);
      expect(largestDifference(await model.logits(tokens), expected)).toBeLessThan(DTYPE_TOLERANCE);
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
