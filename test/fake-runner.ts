/** A runner without a model: its logits are a hash of every token in its cache, so a stale or missing one shows. */
import { createRandom } from "../src/random.ts";
import type { Runner } from "../src/inference/runner.ts";

export type FakeRunner = Runner & {
  /** The tokens that were run, call by call. */
  readonly calls: number[][];
  /** Called in the middle of each forward pass. */
  onForward: (() => void) | undefined;
};

export function createFakeRunner(
  options: { vocabSize?: number; contextLength?: number; maxTokens?: number; maxOutputs?: number } = {},
): FakeRunner {
  const { vocabSize = 32, contextLength = 64, maxTokens = 8, maxOutputs = 3 } = options;
  const cache = new Uint32Array(contextLength).fill(0xdeadbeef);
  const calls: number[][] = [];
  let isBusy = false;

  function row(length: number): Float32Array {
    let hash = 17;
    for (let i = 0; i < length; i++) hash = Math.imul(hash ^ (cache[i]! + i), 0x01000193) >>> 0;
    const random = createRandom(hash);
    return Float32Array.from({ length: vocabSize }, () => 2 * random.normal());
  }

  const runner: FakeRunner = {
    vocabSize,
    contextLength,
    maxTokens,
    maxOutputs,
    calls,
    onForward: undefined,
    async forward(tokens, position, outputs, signal) {
      const isValid =
        tokens.length >= 1 &&
        tokens.length <= maxTokens &&
        outputs <= Math.min(maxOutputs, tokens.length) &&
        position + tokens.length <= contextLength;
      if (isBusy || !isValid) throw new Error(`fake runner: bad call, busy ${isBusy}, ${tokens.length} at ${position}`);
      isBusy = true;
      try {
        calls.push(Array.from(tokens));
        // An aborted pass leaves rubbish behind `position`.
        cache.fill(0xdeadbeef, position);
        await new Promise((resolve) => setImmediate(resolve));
        runner.onForward?.();
        signal?.throwIfAborted();
        const logits = new Float32Array(outputs * vocabSize);
        for (let i = 0; i < tokens.length; i++) {
          cache[position + i] = tokens[i]!;
          const output = i - (tokens.length - outputs);
          if (output >= 0) logits.set(row(position + i + 1), output * vocabSize);
        }
        return logits;
      } finally {
        isBusy = false;
      }
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
