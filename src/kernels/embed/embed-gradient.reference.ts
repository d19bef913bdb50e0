/** Gradient of the embedding: dTable[token[t], c] += dy[t, c]. The oracle. */
import type { Floats } from "../floats.ts";

export function embedBack(
  dTable: Floats, // (V, C), added to
  tokens: ArrayLike<number>, // (T)
  dy: Floats, // (T, C)
  T: number,
  C: number,
): void {
  for (let t = 0; t < T; t++) {
    for (let c = 0; c < C; c++) dTable[tokens[t]! * C + c]! += dy[t * C + c]!;
  }
}
