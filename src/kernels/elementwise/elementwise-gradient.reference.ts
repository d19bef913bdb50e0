/** Gradients of elementwise.reference.ts: the oracles. */
import type { Floats } from "../floats.ts";

/** silu(g) = g·σ(g) has the slope σ(g)·(1 + g·(1 − σ(g))). */
export function swigluBack(dGate: Floats, dUp: Floats, dy: Floats, gate: Floats, up: Floats, count: number): void {
  for (let i = 0; i < count; i++) {
    const g = gate[i]!;
    const sigmoid = 1 / (1 + Math.exp(-g));
    const [d, u] = [dy[i]!, up[i]!]; // read first: outputs may lie over operands
    dGate[i] = d * u * sigmoid * (1 + g * (1 - sigmoid));
    dUp[i] = d * g * sigmoid;
  }
}

export function reluBack(dx: Floats, dy: Floats, x: Floats, count: number): void {
  for (let i = 0; i < count; i++) dx[i] = x[i]! > 0 ? dy[i]! : 0;
}

/** With s = σ(2u) of `gelu`:  dx = dy·(s + x·s·(1 − s)·2u′),  u′ = √(2/π)·(1 + 3·0.044715·x²). */
export function geluBack(dx: Floats, dy: Floats, x: Floats, count: number): void {
  const k = Math.sqrt(2 / Math.PI);
  for (let i = 0; i < count; i++) {
    const v = x[i]!;
    const s = 1 / (1 + Math.exp(-2 * k * (v + 0.044715 * v ** 3)));
    dx[i] = dy[i]! * (s + v * s * (1 - s) * 2 * k * (1 + 3 * 0.044715 * v * v));
  }
}
