/**
 * Activations rounded to 16-bit whole numbers in groups of 32, scale = largest magnitude / 32767. The oracle gives the
 * rounded values themselves, widened; the SIMD twin keeps numbers and scales apart.
 */
import { GROUP } from "../../tensor/dtype.ts";
import type { Floats } from "../floats.ts";

export function quantize(
  y: Floats, // (T, K)
  x: Floats, // (T, K)
  T: number,
  K: number,
): void {
  for (let t = 0; t < T; t++) {
    for (let start = 0; start < K; start += GROUP) {
      const end = Math.min(start + GROUP, K);
      let largest = 0;
      for (let k = start; k < end; k++) largest = Math.max(largest, Math.abs(x[t * K + k]!));
      const scale = Math.fround(largest / 32767);
      for (let k = start; k < end; k++) {
        y[t * K + k] = largest > 0 ? Math.round((x[t * K + k]! * 32767) / largest) * scale : 0;
      }
    }
  }
}

/** The values that kernels see of x (T, K). */
export function quantized(x: Floats, T: number, K: number): Float32Array {
  const rounded = new Float32Array(T * K);
  quantize(rounded, x, T, K);
  return rounded;
}
