/**
 * Chooses the scale and the minimum of 4-bit blocks: x ≈ d·q + m for 32 values, q = 0 … 15, d and m in binary16. Q4_1 is
 * free in both; in Q4_0 m = −8·d.
 */
import { f16ToF32, f32ToF16 } from "./float16.ts";

/** Numbers of a search, in one array: V8 keeps the doubles of objects and closures in boxes. */
export type Q4Search = Float64Array;
/** Where the result stands: the scale, the minimum. */
export const SCALE = 0;
export const MINIMUM = 1;
const ERROR = 2; // of that grid
const SUM_X = 3;
const SUM_XX = 4;
const SUM_Q = 5; // this and the next: of the levels measured last
const SUM_QQ = 6;
const SUM_XQ = 7;
const FIT_SCALE = 8; // the least-squares grid of those levels
const FIT_MINIMUM = 9;

export function createQ4Search(): Q4Search {
  return new Float64Array(10);
}

/** Scales tried on either side of Q4_0's plain one: for normal weights the error falls from 0.0074 of the energy to 0.0065. */
const TRIALS = 3;

/**
 * Q4_1: each end of the range moves by this part of it, out or in, by itself. For normal weights 0.0048 of the energy stays
 * as error, where ggml's rule leaves 0.0061; moving the ends together left 0.0051, and 13 × 13 ends in place of 3 × 3 would
 * leave 0.0047.
 */
const END_STEP = 0.06;
/** A fit of more than this part of the best error so far is not worth another look. */
const PROMISING = 1.4;

/** Rounds of "nearest levels, then least squares" from the best trial; most blocks settle after one or two. */
const REFINEMENTS = 4;

/**
 * Q4_0. ggml's rule: the value largest in magnitude is level 0.
 * @param x 32 values. If they are no numbers, or reach beyond binary16, neither is the scale found.
 */
export function fitQ4_0(x: Float64Array, s: Q4Search): void {
  let extreme = 0;
  for (let i = 0; i < 32; i++) if (!(Math.abs(x[i]!) <= Math.abs(extreme))) extreme = x[i]!;
  start(x, s);
  for (let step = 0; step <= 2 * TRIALS; step++) {
    const d = roundToHalf(Math.fround(extreme / (-8 + (0.8 * signed(step)) / TRIALS)));
    measure(x, s, d, d * -8);
    refitScale(s);
  }
  for (let round = 0, before = NaN; round < REFINEMENTS && before !== s[SCALE]; round++) {
    before = s[SCALE]!;
    measure(x, s, before, before * -8);
    refitScale(s);
  }
}

/**
 * Q4_1. ggml's rule: the smallest value is level 0, the largest 15. An end further in clips and serves the middle, where most
 * values lie.
 * @param x 32 values. If they are no numbers, or reach beyond binary16, neither are scale and minimum.
 */
export function fitQ4_1(x: Float64Array, s: Q4Search): void {
  let smallest = Infinity;
  let largest = -Infinity;
  for (let i = 0; i < 32; i++) {
    smallest = Math.min(smallest, x[i]!);
    largest = Math.max(largest, x[i]!);
  }
  start(x, s);
  const range = Math.fround(largest - smallest);
  measure(x, s, roundToHalf(Math.fround(range / 15)), roundToHalf(smallest));
  refitLine(s);
  const step = range * END_STEP;
  for (let low = -1; low <= 1; low++) {
    for (let high = -1; high <= 1; high++) {
      const minimum = smallest + low * step;
      measure(x, s, roundToHalf((largest - high * step - minimum) / 15), roundToHalf(minimum));
      if (refitLine(s) > PROMISING * s[ERROR]!) continue;
      measure(x, s, s[FIT_SCALE]!, s[FIT_MINIMUM]!);
      refitLine(s);
    }
  }
  for (let round = 0, before = NaN; round < REFINEMENTS && before !== s[ERROR]; round++) {
    before = s[ERROR]!;
    measure(x, s, s[SCALE]!, s[MINIMUM]!);
    refitLine(s);
  }
}

/** 0, 1, −1, 2, −2, …: ggml's own grid first, so that nothing worse is kept. */
function signed(step: number): number {
  return step % 2 === 1 ? (step + 1) / 2 : -step / 2;
}

function start(x: Float64Array, s: Q4Search): void {
  let sum = 0;
  let squares = 0;
  for (let i = 0; i < 32; i++) {
    sum += x[i]!;
    squares += x[i]! * x[i]!;
  }
  s[SCALE] = NaN;
  s[MINIMUM] = NaN;
  s[ERROR] = Infinity;
  s[SUM_X] = sum;
  s[SUM_XX] = squares;
}

/** Sums up the levels nearest to each value, and keeps the grid if it is the best so far. */
function measure(x: Float64Array, s: Q4Search, d: number, m: number): void {
  const inverse = d === 0 ? 0 : 1 / d;
  let sumQ = 0;
  let sumQQ = 0;
  let sumXQ = 0;
  for (let i = 0; i < 32; i++) {
    const value = x[i]!;
    const q = nearestLevel((value - m) * inverse);
    sumQ += q;
    sumQQ += q * q;
    sumXQ += value * q;
  }
  s[SUM_Q] = sumQ;
  s[SUM_QQ] = sumQQ;
  s[SUM_XQ] = sumXQ;
  keepIfBetter(s, d, m);
}

/** Turns (x − m) / d into a level. Adding 1.5·2⁵² rounds a small double to a whole number. */
export function nearestLevel(position: number): number {
  return Math.min(Math.max(position, 0), 15) + 6755399441055744 - 6755399441055744;
}

/** The least-squares scale for the levels just measured; the nearest levels on its grid can only be better still. */
function refitScale(s: Q4Search): void {
  const denominator = s[SUM_QQ]! - 16 * s[SUM_Q]! + 2048; // Σ(q − 8)²
  if (denominator === 0) return;
  const d = roundToHalf((s[SUM_XQ]! - 8 * s[SUM_X]!) / denominator);
  keepIfBetter(s, d, d * -8);
}

/** The least-squares scale and minimum for the levels just measured; gives their error. */
function refitLine(s: Q4Search): number {
  const determinant = 32 * s[SUM_QQ]! - s[SUM_Q]! * s[SUM_Q]!;
  if (determinant === 0) return Infinity;
  const slope = (32 * s[SUM_XQ]! - s[SUM_X]! * s[SUM_Q]!) / determinant;
  s[FIT_SCALE] = roundToHalf(slope);
  s[FIT_MINIMUM] = roundToHalf((s[SUM_X]! - slope * s[SUM_Q]!) / 32);
  return keepIfBetter(s, s[FIT_SCALE], s[FIT_MINIMUM]);
}

/** Gives Σ(d·q + m − x)², from the sums alone. */
function keepIfBetter(s: Q4Search, d: number, m: number): number {
  const error = s[SUM_XX]! + d * (d * s[SUM_QQ]! + 2 * m * s[SUM_Q]! - 2 * s[SUM_XQ]!) + m * (32 * m - 2 * s[SUM_X]!);
  if (error < s[ERROR]!) {
    s[SCALE] = d;
    s[MINIMUM] = m;
    s[ERROR] = error;
  }
  return error;
}

/** The nearest binary16, with 11 significant bits (Veltkamp's splitting); subnormal and huge numbers the long way. */
function roundToHalf(value: number): number {
  const size = Math.abs(value);
  if (!(size > 2 ** -14 && size < 65_504)) return f16ToF32(f32ToF16(value));
  const upper = value * (2 ** 42 + 1);
  return upper - (upper - value);
}
