/**
 * Causal grouped-query attention within sequences of `length` rows, and its gradient (Dao 2023, arXiv:2307.08691,
 * appendix B): with p = exp(q·k/√D − lse),  dv = Σ p·dy,  ds = p·(dy·v − dy·y)/√D,  dq = Σ ds·k,  dk = Σ ds·q. A key/value
 * head sums over its query heads. The oracles.
 */
import type { Floats } from "../floats.ts";

type Shape = {
  /** Rows in all, T; the last sequence may be shorter. */
  readonly rows: number;
  readonly length: number;
  /** Query heads H, key/value heads G, head size D. */
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number;
};

export function selfAttention(
  y: Floats, // (T, H·D)
  lse: Floats, // (T, H)
  q: Floats, // (T, H·D)
  keys: Floats, // (T, G·D)
  values: Floats, // (T, G·D)
  shape: Shape,
): void {
  const { headSize: D } = shape;
  forEachQuery(shape, (query, h, row, first, keyAt) => {
    const scores: number[] = [];
    for (let j = first; j <= row; j++) scores.push(dot(q, query, keys, keyAt(j), D) / Math.sqrt(D));
    const largest = scores.reduce((a, b) => Math.max(a, b));
    const sum = scores.reduce((total, score) => total + Math.exp(score - largest), 0);
    lse[row * shape.heads + h] = Math.log(sum) + largest;
    for (let d = 0; d < D; d++) {
      let mix = 0;
      for (let j = first; j <= row; j++) mix += Math.exp(scores[j - first]! - largest) * values[keyAt(j) + d]!;
      y[query + d] = mix / sum;
    }
  });
}

export function selfAttentionBack(
  dq: Floats, // (T, H·D)
  dKeys: Floats, // (T, G·D)
  dValues: Floats, // (T, G·D)
  dy: Floats, // (T, H·D)
  y: Floats, // (T, H·D)
  lse: Floats, // (T, H)
  q: Floats, // (T, H·D)
  keys: Floats, // (T, G·D)
  values: Floats, // (T, G·D)
  shape: Shape,
): void {
  const { headSize: D } = shape;
  // Sums in f64, whatever the outputs are.
  const sums = [dq, dKeys, dValues].map((out) => new Float64Array(out.length)) as [Floats, Floats, Floats];
  forEachQuery(shape, (query, h, row, first, keyAt) => {
    const mean = dot(dy, query, y, query, D);
    for (let j = first; j <= row; j++) {
      const key = keyAt(j);
      const p = Math.exp(dot(q, query, keys, key, D) / Math.sqrt(D) - lse[row * shape.heads + h]!);
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

type Visit = (query: number, head: number, row: number, first: number, keyAt: (row: number) => number) => void;

/** Where each query lies, the first row of its sequence, and where its keys and values lie. */
function forEachQuery({ rows, length, heads, kvHeads, headSize }: Shape, visit: Visit): void {
  for (let row = 0; row < rows; row++) {
    for (let h = 0; h < heads; h++) {
      const group = Math.floor(h / (heads / kvHeads));
      const keyAt = (j: number): number => (j * kvHeads + group) * headSize;
      visit((row * heads + h) * headSize, h, row, row - (row % length), keyAt);
    }
  }
}

function dot(a: Floats, atA: number, b: Floats, atB: number, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += a[atA + i]! * b[atB + i]!;
  return sum;
}
