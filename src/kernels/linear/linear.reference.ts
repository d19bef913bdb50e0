/** y[t,o] = plus[t,o] + Σ_k x[t,k] · w[o,k], the sum in f64. The oracle of every linear kernel; quantized operands come widened. */
import type { Floats } from "../floats.ts";

export function linear(
  y: Floats, // (T, O)
  x: Floats, // (T, K)
  w: Floats, // (O, K)
  T: number,
  K: number,
  O: number,
  plus?: Floats, // (T, O)
): void {
  for (let t = 0; t < T; t++) {
    for (let o = 0; o < O; o++) {
      let sum = plus?.[t * O + o] ?? 0;
      for (let k = 0; k < K; k++) sum += x[t * K + k]! * w[o * K + k]!;
      y[t * O + o] = sum;
    }
  }
}
