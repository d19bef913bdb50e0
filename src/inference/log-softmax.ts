/**
 * log Σ exp over one row of logits, in f64. −∞ is a legal logit (a masked token); NaN and +∞ are not.
 * @throws {RangeError} naming the first bad token.
 */
export function logSumExp(logits: ArrayLike<number>, start: number = 0, count: number = logits.length - start): number {
  let max = -Infinity;
  for (let i = start; i < start + count; i++) {
    const value = logits[i]!;
    if (value > max) max = value;
  }
  let sum = 0;
  for (let i = start; i < start + count; i++) sum += Math.exp(logits[i]! - max);
  // NaN anywhere, +∞ − +∞ and −∞ − −∞ all end up here.
  if (Number.isNaN(sum)) refuseRow(logits, start, count);
  return max + Math.log(sum);
}

function refuseRow(logits: ArrayLike<number>, start: number, count: number): never {
  for (let i = 0; i < count; i++) {
    const value = logits[start + i]!;
    if (Number.isNaN(value) || value === Infinity) {
      throw new RangeError(
        `logits: expected numbers, got ${value} for token ${i}. The weights are damaged or a sum overflowed.`,
      );
    }
  }
  throw new RangeError("logits: at least one token must be possible, all are -Infinity.");
}

/** The first largest logit of a row. */
export function argmax(logits: ArrayLike<number>, start: number = 0, count: number = logits.length - start): number {
  let best = 0;
  for (let i = 1; i < count; i++) if (logits[start + i]! > logits[start + best]!) best = i;
  return best;
}
