/** Attention on the WebAssembly backend: one kernel reads caches row by row, one walks sequences tile by tile. */
import { declareKernel, type Kernel } from "../kernel.ts";
import type { Lower } from "../lowering.ts";
import { isCached, SEQUENCE_SCRATCH, type attention } from "./attention.ts";

export const cachedAttention: Kernel = declareKernel({
  name: "cachedAttention",
  file: "attention/cached-attention",
  operands: { y: "out", q: "in", keys: "in", values: "in", slots: "ids?", places: "ids?" },
  sizes: { H: undefined, G: undefined, D: undefined, positions: ({ keys }) => keys.rows },
  settings: [],
  runtime: ["position", "rows", "scratch"],
  divide: { take: ["rows", "G"], atOnce: "some" },
});

export const sequenceAttention: Kernel = declareKernel({
  name: "sequenceAttention",
  file: "attention/sequence-attention",
  operands: { y: "out", lse: "out", q: "in", keys: "in", values: "in" },
  sizes: { H: undefined, G: undefined, D: undefined },
  settings: [],
  runtime: ["rows", "length", "scratch"],
  divide: { take: ["sequences", "H"], atOnce: "one" },
  scratchBytes: SEQUENCE_SCRATCH,
});

/** Scores of three heads with a number behind each, and the runs of a text, two words each. */
const cachedScratchBytes = (positions: number): number => (3 * (positions + 1) + 2 * positions) * 4;

export const lowerAttention: Lower<typeof attention> = ({ operands, settings: { headSize } }, lowering) => {
  const { y, lse, q, keys, values, slots, places } = operands;
  const sizes = { H: q.cols / headSize, G: keys.cols / headSize, D: headSize };
  if (isCached(keys)) {
    const scratchBytes = cachedScratchBytes(lowering.limits.positions);
    lowering.command(cachedAttention, { y, q, keys, values, slots, places }, { sizes, scratchBytes });
  } else {
    lowering.command(sequenceAttention, { y, lse, q, keys, values }, { sizes });
  }
};
