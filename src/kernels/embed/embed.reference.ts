/** Row t of y is the row of the table that token t names. The oracle. */
import type { Floats } from "../floats.ts";

export function embed(
  y: Floats, // (T, C)
  tokens: ArrayLike<number>, // (T)
  table: Floats, // (V, C)
  T: number,
  C: number,
): void {
  for (let t = 0; t < T; t++) y.set(table.subarray(tokens[t]! * C, (tokens[t]! + 1) * C), t * C);
}
