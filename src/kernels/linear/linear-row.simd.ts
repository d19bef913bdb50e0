/*
 * y = plus + x · wᵀ for one row of x and weights in f32, row by row: a token written with weights that are being trained. Tiles of 4
 * rows × 4 columns of w are transposed on their way, so that a lane belongs to a row and an output is one sum through k in
 * order: the bits of matmul.simd.ts and of linear-float.simd.ts.
 */
import { madd } from "../math.simd";

export function linearRow(
  y: usize, // (O)
  plus: usize, // (O) or 0; may be y
  x: usize, // (K)
  w: usize, // (O, K)
  K: i32,
  from: i32, // outputs
  to: i32,
): void {
  const stride = (<usize>K) << 2;
  let o = from;
  for (; o + 4 <= to; o += 4) {
    const at = (<usize>o) << 2;
    v128.store(y + at, fourOutputs(plus ? v128.load(plus + at) : f32x4.splat(0), x, w + <usize>o * stride, stride));
  }
  for (; o < to; o++) {
    const at = (<usize>o) << 2;
    // All lanes alike, so that multiply and add are fused as in the vectors.
    let sum = plus ? v128.load32_splat(plus + at) : f32x4.splat(0);
    const row = w + <usize>o * stride;
    for (let k: usize = 0; k < stride; k += 4) sum = madd(v128.load32_splat(x + k), v128.load32_splat(row + k), sum);
    store<f32>(y + at, f32x4.extract_lane(sum, 0));
  }
}

function fourOutputs(sum: v128, x: usize, w0: usize, stride: usize): v128 {
  const w1 = w0 + stride,
    w2 = w1 + stride,
    w3 = w2 + stride;
  const whole = stride & ~15;
  let k: usize = 0;
  for (; k < whole; k += 16) {
    const r0 = v128.load(w0 + k),
      r1 = v128.load(w1 + k),
      r2 = v128.load(w2 + k),
      r3 = v128.load(w3 + k);
    const a = i32x4.shuffle(r0, r1, 0, 4, 1, 5),
      b = i32x4.shuffle(r0, r1, 2, 6, 3, 7),
      c = i32x4.shuffle(r2, r3, 0, 4, 1, 5),
      d = i32x4.shuffle(r2, r3, 2, 6, 3, 7);
    sum = madd(v128.load32_splat(x + k), i64x2.shuffle(a, c, 0, 2), sum);
    sum = madd(v128.load32_splat(x + k, 4), i64x2.shuffle(a, c, 1, 3), sum);
    sum = madd(v128.load32_splat(x + k, 8), i64x2.shuffle(b, d, 0, 2), sum);
    sum = madd(v128.load32_splat(x + k, 12), i64x2.shuffle(b, d, 1, 3), sum);
  }
  for (; k < stride; k += 4) {
    let column = v128.load32_zero(w0 + k);
    column = v128.load32_lane(w1 + k, column, 1);
    column = v128.load32_lane(w2 + k, column, 2);
    column = v128.load32_lane(w3 + k, column, 3);
    sum = madd(v128.load32_splat(x + k), column, sum);
  }
  return sum;
}
