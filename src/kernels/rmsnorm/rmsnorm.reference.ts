/**
 * RMSNorm (Zhang & Sennrich 2019, arXiv:1910.07467, eq. 4):  y[t,c] = x[t,c] · gain[c] / √(mean_c x[t,c]² + eps)
 * The oracle: sums run in f64, so a difference is the fast kernel's own.
 */
import type { Floats } from "../floats.ts";

export function rmsnorm(
  y: Floats, // (T, C)
  x: Floats, // (T, C)
  gain: Floats, // (C)
  T: number,
  C: number,
  eps: number,
): void {
  for (let t = 0; t < T; t++) {
    let sum = 0;
    for (let c = 0; c < C; c++) sum += x[t * C + c]! ** 2;
    const scale = 1 / Math.sqrt(sum / C + eps);
    for (let c = 0; c < C; c++) y[t * C + c] = x[t * C + c]! * scale * gain[c]!;
  }
}
