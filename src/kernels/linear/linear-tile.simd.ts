/* The tile that q8 and q4 share: one group of four rows of x with a block of eight rows of w. */
import { madd } from "../math.simd";

/** Eight weights of a pair of k for four rows; W is i8, or i16 for those unpacked before. */
function weights<W>(pointer: usize): v128 {
  if (sizeof<W>() == 1) return v128.load8x8_s(pointer);
  return v128.load(pointer);
}

/** tile (4, 8) += w · x · scales, for the 32 k of a group. */
export function addFourRows<W>(
  tile: usize,
  x0: usize, // 32 values each
  x1: usize,
  x2: usize,
  x3: usize,
  toScale: usize, // from a row's values to their scale
  w: usize, // 16 pairs of k × 8 rows
  low: v128, // scales of rows 0–3
  high: v128, // and of rows 4–7
): void {
  let a0 = i32x4.splat(0),
    a1 = i32x4.splat(0),
    a2 = i32x4.splat(0),
    a3 = i32x4.splat(0);
  let b0 = i32x4.splat(0),
    b1 = i32x4.splat(0),
    b2 = i32x4.splat(0),
    b3 = i32x4.splat(0);
  for (let p: usize = 0; p < 64; p += 4) {
    const u = weights<W>(w),
      v = weights<W>(w + 8 * sizeof<W>());
    let c = v128.load32_splat(x0 + p);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(u, c));
    b0 = i32x4.add(b0, i32x4.dot_i16x8_s(v, c));
    c = v128.load32_splat(x1 + p);
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(u, c));
    b1 = i32x4.add(b1, i32x4.dot_i16x8_s(v, c));
    c = v128.load32_splat(x2 + p);
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(u, c));
    b2 = i32x4.add(b2, i32x4.dot_i16x8_s(v, c));
    c = v128.load32_splat(x3 + p);
    a3 = i32x4.add(a3, i32x4.dot_i16x8_s(u, c));
    b3 = i32x4.add(b3, i32x4.dot_i16x8_s(v, c));
    w += 16 * sizeof<W>();
  }
  addScaled(tile, a0, b0, low, high, x0 + toScale);
  addScaled(tile + 32, a1, b1, low, high, x1 + toScale);
  addScaled(tile + 64, a2, b2, low, high, x2 + toScale);
  addScaled(tile + 96, a3, b3, low, high, x3 + toScale);
}

/** Eight sums += a group's integer sums, times the scales of w and x. */
export function addScaled(sums: usize, a: v128, b: v128, low: v128, high: v128, scale: usize): void {
  const s = v128.load32_splat(scale);
  v128.store(sums, madd(f32x4.convert_i32x4_s(a), f32x4.mul(low, s), v128.load(sums)));
  v128.store(sums, madd(f32x4.convert_i32x4_s(b), f32x4.mul(high, s), v128.load(sums, 16)), 16);
}

/** The outputs of block b of w in row t; the last block may be short of eight. */
export function storeBlock(y: usize, sums: usize, t: i32, O: i32, b: i32): void {
  const out = y + ((<usize>t * <usize>O + <usize>b * 8) << 2);
  if (O - b * 8 < 8) {
    memory.copy(out, sums, (<usize>(O - b * 8)) << 2);
    return;
  }
  v128.store(out, v128.load(sums));
  v128.store(out, v128.load(sums, 16), 16);
}
