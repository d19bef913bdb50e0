/** Causal grouped-query attention (attention.reference.ts), over a cache or within sequences, and its gradient. */
import type { Tensor } from "../../tensor/tensor.ts";
import { MATMUL_SCRATCH } from "../matmul/matmul.commands.ts";
import { declare, mustFit } from "../operation.ts";
import * as oracles from "./attention.reference.ts";

/** Panels, and the tiles of scores and slopes with two rows of running sums: what sequence-attention.simd.ts takes of each thread. */
export const SEQUENCE_SCRATCH: number = MATMUL_SCRATCH + 2 * 12_288 + 512;

/**
 * Queries (T, H·D) over keys and values (rows, G·D) → (T, H·D). Over a cache, query t stands in row P + t or `slots[t]` and sees
 * the rows of its text (tensor/places.ts). Keys and values that are no cache belong to the tokens of this replay, in
 * sequences of `length` rows; then `lse` (T, H) keeps each row's log Σ exp(score) for the gradient.
 */
export const attention = declare({
  name: "attention",
  operands: { y: "out", lse: "out?", q: "in", keys: "in", values: "in", slots: "ids?", places: "ids?" },
  settings: ["headSize"],
  shape({ q, keys, values }, { headSize }) {
    const fits = q.cols % keys.cols === 0 && keys.cols === values.cols && keys.cols % headSize === 0;
    mustFit("attention", "key/value heads must divide query heads", q, keys, fits);
    return { y: q, ...(isCached(keys) ? {} : { lse: { rows: q.rows, cols: q.cols / headSize } }) };
  },
  oracle({ y, lse, q, keys, values, slots, places }, { rows, of, settings: { headSize }, numbers }) {
    const seenBy = isCached(of.keys)
      ? oracles.seenInCache((t) => slots?.[t] ?? numbers.position + t, places)
      : oracles.seenInSequence(numbers.length);
    oracles.attention(y, lse, q, keys, values, { rows, ...headsOf(of.q, of.keys, headSize), seenBy });
  },
  gradient({ y, lse, q, keys, values }, { headSize }, dy, tape) {
    const { dq, dKeys, dValues } = tape.record(attentionBack, { dy, y, lse: lse!, q, keys, values, headSize });
    tape.add(q, dq);
    tape.add(keys, dKeys);
    tape.add(values, dValues);
  },
  // Half the positions on average: causal.
  flops: ({ q }, rows, _, { position, length }) => 4 * rows * q.cols * (position + (length + 1) / 2),
});

export const attentionBack = declare({
  name: "attentionBack",
  operands: {
    dq: "out",
    dKeys: "out",
    dValues: "out",
    dy: "in",
    y: "in",
    lse: "in",
    q: "in",
    keys: "in",
    values: "in",
  },
  settings: ["headSize"],
  shape: ({ q, keys, values }) => ({ dq: q, dKeys: keys, dValues: values }),
  oracle({ dq, dKeys, dValues, dy, y, lse, q, keys, values }, { rows, of, settings: { headSize }, numbers }) {
    const seenBy = oracles.seenInSequence(numbers.length);
    const shape = { rows, ...headsOf(of.q, of.keys, headSize), seenBy };
    oracles.attentionBack(dq, dKeys, dValues, dy, y, lse, q, keys, values, shape);
  },
  flops: ({ q }, rows, _, { length }) => (10 * rows * q.cols * (length + 1)) / 2,
  kernel: {
    file: "attention/sequence-attention",
    sizes: {
      H: ({ q }, { headSize }) => q.cols / headSize,
      G: ({ keys }, { headSize }) => keys.cols / headSize,
      D: (_, { headSize }) => headSize,
    },
    settings: [],
    runtime: ["rows", "length", "scratch"],
    divide: { take: ["sequences", "G"], atOnce: "one" },
    scratchBytes: SEQUENCE_SCRATCH,
  },
});

export function isCached(keys: Tensor): boolean {
  return keys.kind === "cache";
}

function headsOf(q: Tensor, keys: Tensor, headSize: number): { heads: number; kvHeads: number; headSize: number } {
  return { heads: q.cols / headSize, kvHeads: keys.cols / headSize, headSize };
}
