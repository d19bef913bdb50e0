/**
 * Of each row of logits, what a score needs: log softmax(l)[target], and 1 if the target is the likeliest token (the first
 * of several alike), else 0. The oracle.
 */
import type { Floats } from "../floats.ts";

export function logProbability(
  out: Floats, // (N, 2)
  logits: Floats, // (N, V)
  targets: ArrayLike<number>, // (N)
  N: number,
  V: number,
): void {
  for (let n = 0; n < N; n++) {
    const row = logits.subarray(n * V, (n + 1) * V);
    const target = targets[n]!;
    let likeliest = 0;
    for (let v = 1; v < V; v++) if (row[v]! > row[likeliest]!) likeliest = v;
    let sum = 0;
    for (const logit of row) sum += Math.exp(logit - row[likeliest]!);
    out[2 * n] = row[target]! - row[likeliest]! - Math.log(sum);
    out[2 * n + 1] = likeliest === target ? 1 : 0;
  }
}
