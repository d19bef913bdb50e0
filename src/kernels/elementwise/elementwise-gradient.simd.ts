// Twins of elementwise-gradient.reference.ts. `from`…`to` are elements, multiples of 4 except at the end.
import { exp1, exp4, madd } from "../math.simd";

export function swigluBack(dGate: usize, dUp: usize, dy: usize, gate: usize, up: usize, from: i32, to: i32): void {
  const one = f32x4.splat(1);
  let i = from;
  for (; i + 4 <= to; i += 4) {
    const at = (<usize>i) << 2;
    const g = v128.load(gate + at),
      d = v128.load(dy + at);
    const sigmoid = f32x4.div(one, f32x4.add(one, exp4(f32x4.neg(g))));
    const slope = f32x4.mul(sigmoid, madd(g, f32x4.sub(one, sigmoid), one));
    const dg = f32x4.mul(f32x4.mul(d, v128.load(up + at)), slope);
    v128.store(dUp + at, f32x4.mul(f32x4.mul(d, g), sigmoid));
    v128.store(dGate + at, dg);
  }
  for (; i < to; i++) {
    const at = (<usize>i) << 2;
    const g = load<f32>(gate + at),
      d = load<f32>(dy + at);
    const sigmoid = <f32>1 / (<f32>1 + exp1(-g));
    const dg = d * load<f32>(up + at) * sigmoid * (<f32>1 + g * (<f32>1 - sigmoid));
    store<f32>(dUp + at, d * g * sigmoid);
    store<f32>(dGate + at, dg);
  }
}

export function reluBack(dx: usize, dy: usize, x: usize, from: i32, to: i32): void {
  for (let i = from; i < to; i++) {
    const at = (<usize>i) << 2;
    store<f32>(dx + at, load<f32>(x + at) > 0 ? load<f32>(dy + at) : 0);
  }
}
