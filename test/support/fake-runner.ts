/** A runner without a model: its logits are a hash of every token in its cache, so a stale or missing one shows. */
import { createRandom } from "../../src/random.ts";
import { logProbability } from "../../src/kernels/log-probability/log-probability.reference.ts";
import { PLACE_WORDS, placesOf } from "../../src/tensor/places.ts";
import { type Batch, batchOf } from "../../src/inference/batch.ts";
import type { Runner } from "../../src/inference/runner.ts";

export type FakeRunner = Omit<Runner, "version" | "digest"> & {
  digest: Runner["digest"];
  version: number;
  /** The tokens that were run, call by call. */
  readonly calls: number[][];
  /** Called in the middle of each forward pass. */
  onForward: (() => void) | undefined;
};

export function createFakeRunner(
  options: {
    vocabSize?: number;
    contextLength?: number;
    cacheRows?: number;
    maxTokens?: number;
    maxOutputs?: number;
  } = {},
): FakeRunner {
  const { vocabSize = 32, contextLength = 64, maxTokens = 8, maxOutputs = 3 } = options;
  const { cacheRows = contextLength } = options;
  const cache = new Uint32Array(cacheRows).fill(0xdeadbeef);
  const places = new Int32Array(cacheRows * PLACE_WORDS);
  const calls: number[][] = [];
  let isBusy = false;

  /** The tokens of the text that ends in a cache row. */
  function textUpTo(end: number): number[] {
    if (end < 0) return [];
    const start = places[end * PLACE_WORDS + placesOf.start]!;
    const text = [
      ...textUpTo(places[end * PLACE_WORDS + placesOf.parent]!),
      ...Array.from(cache.subarray(start, end + 1)),
    ];
    if (text.length - 1 !== places[end * PLACE_WORDS + placesOf.position]) throw new Error("fake runner: bad place");
    return text;
  }

  function row(end: number): Float32Array {
    let hash = 17;
    for (const [i, token] of textUpTo(end).entries()) hash = Math.imul(hash ^ (token + i), 0x01000193) >>> 0;
    const random = createRandom(hash);
    return Float32Array.from({ length: vocabSize }, () => 2 * random.normal());
  }

  async function pass(
    { tokens, slots, places: given, rows }: Batch,
    signal: AbortSignal | undefined,
  ): Promise<Float32Array> {
    const fits = tokens.length >= 1 && tokens.length <= maxTokens && slots.every((slot) => slot < cacheRows);
    const isValid = rows.length <= maxOutputs && rows.every((at) => at >= 0 && at < tokens.length);
    if (isBusy || !isValid || !fits) {
      throw new Error(`fake runner: bad call, busy ${isBusy}, ${tokens.length} at ${slots[0]}`);
    }
    isBusy = true;
    try {
      calls.push([...tokens]);
      // An aborted pass leaves rubbish in its rows.
      for (const slot of slots) cache[slot] = 0xdeadbeef;
      await new Promise((resolve) => setImmediate(resolve));
      runner.onForward?.();
      signal?.throwIfAborted();
      for (const [i, slot] of slots.entries()) {
        cache[slot] = tokens[i]!;
        places.set(given.subarray(i * PLACE_WORDS, (i + 1) * PLACE_WORDS), slot * PLACE_WORDS);
      }
      return concat(rows.map((at) => row(slots[at]!)));
    } finally {
      isBusy = false;
    }
  }

  const concat = (rows: Float32Array[]): Float32Array => {
    const all = new Float32Array(rows.length * vocabSize);
    for (const [n, logits] of rows.entries()) all.set(logits, n * vocabSize);
    return all;
  };

  const runner: FakeRunner = {
    vocabSize,
    contextLength,
    cacheRows,
    maxTokens,
    maxOutputs,
    calls,
    onForward: undefined,
    version: 0,
    digest: async () => "0123456789abcdef",
    forward: pass,
    async score(batch, targets, signal) {
      const logits = await pass(batch, signal);
      const answers = new Float32Array(2 * targets.length);
      logProbability(answers, logits, targets, targets.length, vocabSize);
      return answers;
    },
    async readCache(length) {
      await Promise.resolve();
      return new Uint8Array(cache.slice(0, length).buffer);
    },
    async writeCache(bytes, length) {
      await Promise.resolve();
      cache.fill(0xdeadbeef).set(new Uint32Array(bytes.slice().buffer));
      if (bytes.length !== 4 * length) throw new Error("fake runner: wrong length");
    },
  };
  return runner;
}

/** Letters a–z are tokens 0–25; 26 is "ab", 27 "st", 28 a space, 29 nothing, 30 bos, 31 eos. */
export const fakeTokenizer = {
  vocabSize: 32,
  bosToken: 30,
  eosTokens: [31],
  encode(text: string, { addBos = true }: { addBos?: boolean } = {}): number[] {
    const parts = text.match(/ab|st|[a-z ]/g) ?? [];
    return [...(addBos ? [30] : []), ...parts.map((part) => pieces.indexOf(part))];
  },
  createDecoder: (): { push(token: number): string; end(): string } => ({
    push: (token) => pieces[token]!,
    end: () => "",
  }),
};
const pieces = [..."abcdefghijklmnopqrstuvwxyz".split(""), "ab", "st", " ", "", "", ""];

/** The logits after the last of `tokens`, as the runner would give them to a text alone. */
export async function forwardAlone(runner: FakeRunner, tokens: readonly number[], outputs = 1): Promise<Float32Array> {
  return runner.forward(batchOf([{ tokens, position: 0, firstRow: 0, outputs }]));
}
