/**
 * Causal grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245): a query sees the keys of its text up to its own;
 * H / G query heads share a key/value head.  y = softmax(q·k / √D) · v.  Its gradient (Dao 2023, arXiv:2307.08691, appendix B):
 * with p = exp(q·k/√D − lse),  dv = Σ p·dy,  ds = p·(dy·v − dy·y)/√D,  dq = Σ ds·k,  dk = Σ ds·q.  The oracles: sums run in f64.
 */
import { PLACE_WORDS, placesOf } from "../../tensor/places.ts";
import type { Floats } from "../floats.ts";

export type AttentionShape = {
  /** Rows of queries, T. */
  readonly rows: number;
  /** Query heads H, key/value heads G, head size D. */
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number;
  /** The rows of keys and values that query row t sees, its own last. */
  readonly seenBy: (t: number) => readonly number[];
};

/** What a query sees within sequences of `length` rows that follow each other. */
export function seenInSequence(length: number): (t: number) => number[] {
  return (t) => Array.from({ length: (t % length) + 1 }, (_, j) => t - (t % length) + j);
}

/** What a query sees in a cache: the rows of the text that ends in row `slotOf(t)`, all before it or what `places` (positions, 3) says. */
export function seenInCache(slotOf: (t: number) => number, places: Int32Array | undefined): (t: number) => number[] {
  if (!places) return (t) => Array.from({ length: slotOf(t) + 1 }, (_, j) => j);
  return (t) => {
    const rows: number[] = [];
    for (let end = slotOf(t); end >= 0;) {
      const start = places[end * PLACE_WORDS + placesOf.start]!;
      for (let j = end; j >= start; j--) rows.push(j);
      end = places[end * PLACE_WORDS + placesOf.parent]!;
    }
    return rows.reverse();
  };
}

export function attention(
  y: Floats, // (T, H·D)
  lse: Floats | undefined, // (T, H): log Σ exp(score) of each row
  q: Floats, // (T, H·D)
  keys: Floats, // (rows, G·D)
  values: Floats, // (rows, G·D)
  shape: AttentionShape,
): void {
  const { headSize: D } = shape;
  forEachQuery(shape, (query, at, seen, keyAt) => {
    const scores = seen.map((row) => dot(q, query, keys, keyAt(row), D) / Math.sqrt(D));
    const largest = scores.reduce((a, b) => Math.max(a, b));
    const weights = scores.map((score) => Math.exp(score - largest));
    const sum = weights.reduce((a, b) => a + b);
    if (lse) lse[at] = Math.log(sum) + largest;
    for (let d = 0; d < D; d++) {
      let mix = 0;
      for (const [i, row] of seen.entries()) mix += weights[i]! * values[keyAt(row) + d]!;
      y[query + d] = mix / sum;
    }
  });
}

export function attentionBack(
  dq: Floats, // (T, H·D)
  dKeys: Floats, // (T, G·D)
  dValues: Floats, // (T, G·D)
  dy: Floats, // (T, H·D)
  y: Floats, // (T, H·D)
  lse: Floats, // (T, H)
  q: Floats, // (T, H·D)
  keys: Floats, // (T, G·D)
  values: Floats, // (T, G·D)
  shape: AttentionShape,
): void {
  const { headSize: D } = shape;
  // Sums in f64, whatever the outputs are.
  const sums = [dq, dKeys, dValues].map((out) => new Float64Array(out.length)) as [Floats, Floats, Floats];
  forEachQuery(shape, (query, at, seen, keyAt) => {
    const mean = dot(dy, query, y, query, D);
    for (const row of seen) {
      const key = keyAt(row);
      const p = Math.exp(dot(q, query, keys, key, D) / Math.sqrt(D) - lse[at]!);
      const ds = (p * (dot(dy, query, values, key, D) - mean)) / Math.sqrt(D);
      for (let d = 0; d < D; d++) {
        sums[0][query + d]! += ds * keys[key + d]!;
        sums[1][key + d]! += ds * q[query + d]!;
        sums[2][key + d]! += p * dy[query + d]!;
      }
    }
  });
  [dq, dKeys, dValues].forEach((out, i) => out.set(sums[i as 0 | 1 | 2]));
}

type Visit = (query: number, at: number, seen: readonly number[], keyAt: (row: number) => number) => void;

/** Where each head's query lies, its number, the rows that it sees, and where their keys and values lie. */
function forEachQuery({ rows, heads, kvHeads, headSize, seenBy }: AttentionShape, visit: Visit): void {
  for (let t = 0; t < rows; t++) {
    const seen = seenBy(t);
    for (let h = 0; h < heads; h++) {
      const group = Math.floor(h / (heads / kvHeads));
      const at = t * heads + h;
      visit(at * headSize, at, seen, (row) => (row * kvHeads + group) * headSize);
    }
  }
}

function dot(a: Floats, atA: number, b: Floats, atB: number, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += a[atA + i]! * b[atB + i]!;
  return sum;
}
