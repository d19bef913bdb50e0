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
