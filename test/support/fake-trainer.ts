/** A trainer and a loader without a model: every number depends on all rows that came before, so a row lost or doubled shows. */
import { readFile } from "node:fs/promises";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type ModelConfig, noSharing } from "../../src/model/config.ts";
import { createRandom } from "../../src/random.ts";
import { TrainingError } from "../../src/errors.ts";
import type { Loader, LoaderPosition } from "../../src/training/data/loader.ts";
import type { Row } from "../../src/training/rows.ts";
import type { RunTrainer } from "../../src/training/run/node-train.ts";

export const fakeConfig: ModelConfig = {
  dim: 8,
  layers: 1,
  heads: 2,
  kvHeads: 1,
  headSize: 4,
  hidden: 16,
  vocabSize: 64,
  contextLength: 32,
  activation: "swiglu",
  isTied: true,
  normEps: 1e-5,
  ropeTheta: 10_000,
  sharing: noSharing,
  bosToken: undefined,
  eosTokens: [0],
};

type Weights = { steps: number; words: number[] };

export type FakeTrainer = { -readonly [K in Exclude<keyof RunTrainer, "steps">]: RunTrainer[K] } & Pick<
  RunTrainer,
  "steps"
> & {
    /** Called in the middle of a step, after the rows were taken. */
    onStep: ((step: number) => void) | undefined;
    onEvaluate: (() => void) | undefined;
    /** A loss to give instead of the computed one. */
    lossAt: ((step: number) => number | undefined) | undefined;
    /** As text, to compare. */
    weights(): string;
  };

export function createFakeTrainer(from: Weights = { steps: 0, words: [1, 2, 3, 4] }): FakeTrainer {
  let { steps, words } = from;
  const trainer: FakeTrainer = {
    config: fakeConfig,
    description: "fake (1 thread)",
    memory: { weights: 8, gradients: 0, moments: 0, activations: 0, constants: 0, cache: 0, program: 0, total: 8 },
    onStep: undefined,
    onEvaluate: undefined,
    lossAt: undefined,
    get steps() {
      return steps;
    },
    weights: () => JSON.stringify({ steps, words }),
    async step(microBatches, { signal } = {}) {
      trainer.onStep?.(steps + 1);
      await Promise.resolve();
      signal?.throwIfAborted();
      const loss = trainer.lossAt?.(steps + 1) ?? lossOf(steps, words);
      if (!Number.isFinite(loss)) throw new TrainingError(`step ${steps + 1}: loss must be finite, got ${loss}.`);
      words = absorb(words, microBatches.flat());
      steps++;
      return { loss, gradientNorm: 1 + words[0]! / 2 ** 32, learningRate: 0.001 * steps };
    },
    async evaluate(rows, { signal } = {}) {
      trainer.onEvaluate?.();
      await Promise.resolve();
      signal?.throwIfAborted();
      const tokens = rows.reduce((sum, row) => sum + tokensOf(row).length - 1, 0);
      return { loss: tokens * lossOf(steps, words), tokens };
    },
    openModel: () => Promise.reject(new Error("the fake trainer has no model to open")),
    async save(directory, { files }) {
      const fresh = `${directory}.new`;
      await rm(fresh, { recursive: true, force: true });
      await mkdir(fresh, { recursive: true });
      await writeFile(join(fresh, "weights.json"), trainer.weights());
      for (const [name, text] of Object.entries(files)) await writeFile(join(fresh, name), text);
      await rm(directory, { recursive: true, force: true });
      await rename(fresh, directory);
    },
    dispose: () => Promise.resolve(),
  };
  return trainer;
}

export async function loadFakeTrainer(directory: string): Promise<FakeTrainer> {
  return createFakeTrainer(JSON.parse(await readFile(join(directory, "weights.json"), "utf8")) as Weights);
}

/** Falls from ln 64 on, with noise that the weights decide. */
function lossOf(steps: number, words: readonly number[]): number {
  return Math.log(64) / (1 + steps / 20) + (0.1 * words[1]!) / 2 ** 32;
}

function tokensOf(row: Row): ArrayLike<number> {
  return "tokens" in row ? row.tokens : row;
}

function absorb(words: readonly number[], rows: readonly Row[]): number[] {
  let hash = words[3]!;
  for (const row of rows) {
    const tokens = tokensOf(row);
    for (let i = 0; i < tokens.length; i++) hash = Math.imul(hash ^ tokens[i]!, 0x01000193) >>> 0;
  }
  return [words[1]!, words[2]!, words[3]!, hash];
}

/** Rows of random tokens, each by its number. */
export function createFakeLoader(options: {
  length: number;
  seed: number;
  position?: LoaderPosition | undefined;
}): Loader {
  const { length, seed, position } = options;
  let drawn = position?.parts[0]!.drawn ?? 0;
  const heldOut = Array.from({ length: 5 }, (_, row) => Array.from({ length: length + 1 }, (__, i) => (row + i) % 64));
  const row = (): number[] => {
    const random = createRandom(1000 * seed + drawn++);
    return Array.from({ length: length + 1 }, () => random.below(64));
  };
  return {
    next: async (rows) => Array.from({ length: rows }, row),
    get position(): LoaderPosition {
      return { version: 1, length, seed, parts: [{ rows: 1000, drawn }] };
    },
    epoch: 0,
    tokensPerEpoch: 1000 * length,
    async *heldOut(maxRows = Infinity) {
      yield heldOut.slice(0, maxRows);
    },
    heldOutBytesPerToken: 3,
  };
}
