/** Rows from one matrix to another: the oracles. */
import type { Floats } from "../floats.ts";

/** Row t of x becomes row `slotOf(t)` of the cache. */
export function store(
  cache: Floats, // (positions, C)
  x: Floats, // (T, C)
  T: number,
  C: number,
  slotOf: (t: number) => number,
): void {
  for (let t = 0; t < T; t++) cache.set(x.subarray(t * C, (t + 1) * C), slotOf(t) * C);
}

/** Row n of y is row `rows[n]` of x. */
export function pick(
  y: Floats, // (N, C)
  x: Floats, // (T, C)
  rows: ArrayLike<number>, // (N)
  N: number,
  C: number,
): void {
  for (let n = 0; n < N; n++) y.set(x.subarray(rows[n]! * C, (rows[n]! + 1) * C), n * C);
}
