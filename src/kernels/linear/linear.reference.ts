/** Products with a weight and their gradients. The oracles: sums run in f64; quantized operands come widened. */
import type { Floats } from "../floats.ts";

/** y[t,o] = plus[t,o] + Σ_k x[t,k] · w[o,k]. */
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

/** dx[t,k] = plus + Σ_o dy[t,o] · w[o,k]. */
export function linearInput(
  dx: Floats, // (T, K)
  dy: Floats, // (T, O)
  w: Floats, // (O, K)
  plus: Floats | undefined, // (T, K)
  T: number,
  K: number,
  O: number,
): void {
  for (let t = 0; t < T; t++) {
    for (let k = 0; k < K; k++) {
      let sum = plus?.[t * K + k] ?? 0;
      for (let o = 0; o < O; o++) sum += dy[t * O + o]! * w[o * K + k]!;
      dx[t * K + k] = sum;
    }
  }
}

/** dw[o,k] += Σ_t dy[t,o] · x[t,k]. */
export function linearWeight(
  dw: Floats, // (O, K)
  dy: Floats, // (T, O)
  x: Floats, // (T, K)
  T: number,
  K: number,
  O: number,
): void {
  for (let o = 0; o < O; o++) {
    for (let k = 0; k < K; k++) {
      let sum = 0;
      for (let t = 0; t < T; t++) sum += dy[t * O + o]! * x[t * K + k]!;
      dw[o * K + k]! += sum;
    }
  }
}
