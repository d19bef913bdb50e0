/**
 * Cross-entropy of one row of logits: loss = log Σ exp(l) − l[target], and its gradient softmax(l) − onehot(target), times
 * `scale`, in place of the logits. A negative target is masked: no loss, no gradient. The oracle.
 */
import type { Floats } from "../floats.ts";

export function crossEntropyRows(
  losses: Floats, // (T)
  logits: Floats, // (T, V)
  targets: ArrayLike<number>, // (T)
  scale: number | undefined, // undefined: the loss only
  T: number,
  V: number,
): void {
  for (let t = 0; t < T; t++) {
    const row = logits.subarray(t * V, (t + 1) * V);
    const target = targets[t]!;
    if (target < 0) {
      losses[t] = 0;
      if (scale !== undefined) row.fill(0);
      continue;
    }
    let largest = -Infinity;
    for (const logit of row) largest = Math.max(largest, logit);
    let sum = 0;
    for (const logit of row) sum += Math.exp(logit - largest);
    losses[t] = Math.log(sum) + largest - row[target]!;
    if (scale === undefined) continue;
    for (let v = 0; v < V; v++) {
      row[v] = (Math.exp(row[v]! - largest) / sum - (v === target ? 1 : 0)) * scale;
    }
  }
}
