// Twins of elementwise.reference.ts: one output element per input element. `from`…`to` are elements, multiples of 4
// except at the end.
import { exp1, exp4 } from "../math.simd";

export function add(out: usize, a: usize, b: usize, from: i32, to: i32): void {
  let i = from;
  for (; i + 4 <= to; i += 4) {
    const at = (<usize>i) << 2;
    v128.store(out + at, f32x4.add(v128.load(a + at), v128.load(b + at)));
  }
  for (; i < to; i++) {
    const at = (<usize>i) << 2;
    store<f32>(out + at, load<f32>(a + at) + load<f32>(b + at));
  }
}

export function relu(out: usize, x: usize, from: i32, to: i32): void {
  for (let i = from; i < to; i++) {
    const at = (<usize>i) << 2;
    store<f32>(out + at, max<f32>(load<f32>(x + at), 0));
  }
}

/** silu(gate) · up, silu(g) = g / (1 + e^-g). */
export function swiglu(out: usize, gate: usize, up: usize, from: i32, to: i32): void {
  const one = f32x4.splat(1);
  let i = from;
  for (; i + 4 <= to; i += 4) {
    const at = (<usize>i) << 2;
    const g = v128.load(gate + at);
    const silu = f32x4.div(g, f32x4.add(one, exp4(f32x4.neg(g))));
    v128.store(out + at, f32x4.mul(silu, v128.load(up + at)));
  }
  for (; i < to; i++) {
    const at = (<usize>i) << 2;
    const g = load<f32>(gate + at);
    store<f32>(out + at, (g / (<f32>1 + exp1(-g))) * load<f32>(up + at));
  }
}
