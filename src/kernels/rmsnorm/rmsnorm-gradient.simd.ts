// Twins of rmsnorm-gradient.reference.ts.
import { madd, sum4 } from "../math.simd";

export function rmsnormBack(
  dx: usize, // (T, heads · C)
  scale: usize, // (T, heads)
  dy: usize, // (T, heads · C)
  x: usize, // (T, heads · C)
  gain: usize, // (C)
  plus: usize, // (T, heads · C) or 0; may be dx
  C: i32,
  heads: i32, // parts of a row, each normalized by itself
  eps: f32,
  from: i32, // rows
  to: i32,
): void {
  const stride = (<usize>C) << 2;
  const whole = stride & ~15;
  for (let t = from * heads; t < to * heads; t++) {
    const at = <usize>t * stride;
    const row = x + at,
      d = dy + at;
    let a0 = f32x4.splat(0),
      a1 = f32x4.splat(0);
    let c: usize = 0;
    for (; c < whole; c += 16) {
      const v = v128.load(row + c);
      a0 = madd(v, v, a0);
      a1 = madd(f32x4.mul(v128.load(gain + c), v128.load(d + c)), v, a1);
    }
    let squares = sum4(a0),
      dot = sum4(a1);
    for (; c < stride; c += 4) {
      const v = load<f32>(row + c);
      squares += v * v;
      dot += load<f32>(gain + c) * load<f32>(d + c) * v;
    }
    const s = <f32>1 / sqrt<f32>(squares / <f32>C + eps);
    store<f32>(scale + ((<usize>t) << 2), s);
    const k = (-s * s * s * dot) / <f32>C;
    const ss = f32x4.splat(s),
      kk = f32x4.splat(k);
    const out = dx + at,
      sum = plus + at;
    for (c = 0; c < whole; c += 16) {
      let v = f32x4.mul(f32x4.mul(v128.load(gain + c), v128.load(d + c)), ss);
      v = madd(v128.load(row + c), kk, v);
      if (plus) v = f32x4.add(v, v128.load(sum + c));
      v128.store(out + c, v);
    }
    for (; c < stride; c += 4) {
      let v = load<f32>(gain + c) * load<f32>(d + c) * s + load<f32>(row + c) * k;
      if (plus) v += load<f32>(sum + c);
      store<f32>(out + c, v);
    }
  }
}

/** Sums down the rows: a thread owns columns, so that their order does not depend on the number of threads. */
export function gainBack(
  dGain: usize, // (C)
  dy: usize, // (T, heads · C)
  x: usize, // (T, heads · C)
  scale: usize, // (T, heads)
  C: i32,
  heads: i32,
  rows: i32, // T
  from: i32, // columns
  to: i32,
): void {
  const stride = (<usize>C) << 2;
  let c = from;
  for (; c + 8 <= to; c += 8) {
    const at = (<usize>c) << 2;
    let a0 = f32x4.splat(0),
      a1 = f32x4.splat(0);
    let d = dy + at,
      v = x + at;
    for (let t = 0; t < rows * heads; t++, d += stride, v += stride) {
      const s = v128.load32_splat(scale + ((<usize>t) << 2));
      a0 = madd(f32x4.mul(v128.load(d), s), v128.load(v), a0);
      a1 = madd(f32x4.mul(v128.load(d, 16), s), v128.load(v, 16), a1);
    }
    v128.store(dGain + at, f32x4.add(v128.load(dGain + at), a0));
    v128.store(dGain + at, f32x4.add(v128.load(dGain + at, 16), a1), 16);
  }
  for (; c < to; c++) {
    const at = (<usize>c) << 2;
    let sum: f32 = 0;
    for (let t = 0; t < rows * heads; t++) {
      const row = at + <usize>t * stride;
      sum += load<f32>(dy + row) * load<f32>(scale + ((<usize>t) << 2)) * load<f32>(x + row);
    }
    store<f32>(dGain + at, load<f32>(dGain + at) + sum);
  }
}
