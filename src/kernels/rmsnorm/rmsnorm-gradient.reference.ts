/**
 * Gradient of RMSNorm. With s = 1 / √(mean x² + eps):  dx = s·(gain·dy) − x · s³/C · Σ_c gain·dy·x,  dgain += Σ_t dy·x·s.
 * The oracle.
 */
import type { Floats } from "../floats.ts";

export function rmsnormBack(
  dx: Floats, // (T, C)
  scale: Floats, // (T): s
  dy: Floats, // (T, C)
  x: Floats, // (T, C)
  gain: Floats, // (C)
  plus: Floats | undefined, // (T, C), added
  T: number,
  C: number,
  eps: number,
): void {
  for (let t = 0; t < T; t++) {
    let squares = 0;
    let dot = 0;
    for (let i = t * C; i < (t + 1) * C; i++) {
      squares += x[i]! ** 2;
      dot += gain[i - t * C]! * dy[i]! * x[i]!;
    }
    const s = 1 / Math.sqrt(squares / C + eps);
    scale[t] = s;
    for (let i = t * C; i < (t + 1) * C; i++) {
      dx[i] = (plus?.[i] ?? 0) + s * gain[i - t * C]! * dy[i]! - (x[i]! * s ** 3 * dot) / C;
    }
  }
}

export function gainBack(
  dGain: Floats, // (C), added to
  dy: Floats, // (T, C)
  x: Floats, // (T, C)
  scale: Floats, // (T)
  T: number,
  C: number,
): void {
  for (let c = 0; c < C; c++) {
    let sum = 0;
    for (let t = 0; t < T; t++) sum += dy[t * C + c]! * x[t * C + c]! * scale[t]!;
    dGain[c]! += sum;
  }
}
