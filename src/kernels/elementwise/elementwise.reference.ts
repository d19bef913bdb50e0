/** Operations with one output element for each input element: the oracles. */

import type { Floats } from "../floats.ts";

export function add(out: Floats, x: Floats, y: Floats, count: number): void {
  for (let i = 0; i < count; i++) out[i] = x[i]! + y[i]!;
}

export function relu(out: Floats, x: Floats, count: number): void {
  for (let i = 0; i < count; i++) out[i] = Math.max(x[i]!, 0);
}

/** silu(gate) · up, silu(g) = g / (1 + e^-g)  (SwiGLU: Shazeer 2020, arXiv:2002.05202, eq. 6). */
export function swiglu(out: Floats, gate: Floats, up: Floats, count: number): void {
  for (let i = 0; i < count; i++) out[i] = (gate[i]! / (1 + Math.exp(-gate[i]!))) * up[i]!;
}
