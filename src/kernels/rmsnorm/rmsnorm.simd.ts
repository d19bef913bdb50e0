// Twin of rmsnorm.reference.ts. Four accumulators hide the latency of the multiply-add; rest columns one by one.
import { madd, sum4 } from "../math.simd";

export function rmsnorm(
  y: usize, // (T, heads · C)
  x: usize, // (T, heads · C)
  gain: usize, // (C)
  C: i32,
  heads: i32, // parts of a row, each normalized by itself
  eps: f32,
  from: i32, // rows
  to: i32,
): void {
  const stride = (<usize>C) << 2;
  for (let t = from * heads; t < to * heads; t++) {
    const row = x + <usize>t * stride;
    const out = y + <usize>t * stride;
    let a0 = f32x4.splat(0),
      a1 = f32x4.splat(0),
      a2 = f32x4.splat(0),
      a3 = f32x4.splat(0);
    let c: usize = 0;
    for (; c + 64 <= stride; c += 64) {
      const x0 = v128.load(row + c),
        x1 = v128.load(row + c, 16),
        x2 = v128.load(row + c, 32),
        x3 = v128.load(row + c, 48);
      a0 = madd(x0, x0, a0);
      a1 = madd(x1, x1, a1);
      a2 = madd(x2, x2, a2);
      a3 = madd(x3, x3, a3);
    }
    let sum = sum4(f32x4.add(f32x4.add(a0, a1), f32x4.add(a2, a3)));
    for (; c < stride; c += 4) sum += load<f32>(row + c) * load<f32>(row + c);
    const scale = <f32>1 / sqrt<f32>(sum / <f32>C + eps);
    const scales = f32x4.splat(scale);
    for (c = 0; c + 16 <= stride; c += 16) {
      v128.store(out + c, f32x4.mul(f32x4.mul(v128.load(row + c), scales), v128.load(gain + c)));
    }
    for (; c < stride; c += 4) store<f32>(out + c, load<f32>(row + c) * scale * load<f32>(gain + c));
  }
}
