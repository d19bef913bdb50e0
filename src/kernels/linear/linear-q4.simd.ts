/*
 * y = x · wᵀ with 4-bit weights (value·scale + minimum) and 16-bit activations, in groups of 32 (tensor/pack.ts).
 * As linear-q8; a 16-bit lane of w holds four values of one row: masked where they stand, worth 1, 16 and 256 times
 * themselves, and shifted back after the group (exact: 3840·32767·8 < 2³¹). The minimum meets the group's sum of x.
 */
import { f16x4, madd } from "../math.simd";

const BLOCK: usize = 160; // 8 f16 scales, 8 f16 minima, 4 × (rows 0–3, rows 4–7) × 16 bytes

export function linearQ4(
  y: usize, // (T, O)
  x: usize, // (T) quantized rows
  w: usize, // (O/8, groups) blocks
  tile: usize, // scratch of this thread: (8) f32
  T: i32,
  K: i32,
  O: i32,
  from: i32, // blocks of 8 rows of w
  to: i32,
): void {
  const groups = (K + 31) / 32;
  const xs = <usize>groups * 72;
  for (let b = from; b < to; b++) {
    const block = w + <usize>b * <usize>groups * BLOCK;
    const rows = min(8, O - b * 8);
    for (let t = 0; t < T; t++) {
      halfBlock(tile, x + <usize>t * xs, block, groups, 0);
      halfBlock(tile + 16, x + <usize>t * xs, block, groups, 1);
      memory.copy(y + ((<usize>t * <usize>O + <usize>b * 8) << 2), tile, (<usize>rows) << 2);
    }
  }
}

/** Rows 4·half … 4·half + 3 of a block. */
function halfBlock(tile: usize, x: usize, w: usize, groups: i32, half: usize): void {
  const mask0 = i16x8.splat(0x000f),
    mask1 = i16x8.splat(0x00f0),
    mask2 = i16x8.splat(0x0f00);
  let acc = f32x4.splat(0);
  let scales = x + <usize>groups * 64;
  const toSums = <usize>groups * 4;
  for (let g = 0; g < groups; g++) {
    let a0 = i32x4.splat(0),
      a1 = i32x4.splat(0),
      a2 = i32x4.splat(0),
      a3 = i32x4.splat(0);
    const q = w + 32 + half * 16;
    for (let s: usize = 0; s < 4; s++) {
      const v = v128.load(q + s * 32);
      const p = x + s * 16;
      a0 = i32x4.add(a0, i32x4.dot_i16x8_s(v128.and(v, mask0), v128.load32_splat(p)));
      a1 = i32x4.add(a1, i32x4.dot_i16x8_s(v128.and(v, mask1), v128.load32_splat(p, 4)));
      a2 = i32x4.add(a2, i32x4.dot_i16x8_s(v128.and(v, mask2), v128.load32_splat(p, 8)));
      a3 = i32x4.add(a3, i32x4.dot_i16x8_s(i16x8.shr_u(v, 12), v128.load32_splat(p, 12)));
    }
    const sum = i32x4.add(i32x4.add(a0, a3), i32x4.add(i32x4.shr_s(a1, 4), i32x4.shr_s(a2, 8)));
    const scale = f32x4.mul(f16x4(w + half * 8), v128.load32_splat(scales));
    acc = madd(f32x4.convert_i32x4_s(sum), scale, acc);
    acc = madd(f16x4(w + 16 + half * 8), v128.load32_splat(scales + toSums), acc);
    w += BLOCK;
    x += 64;
    scales += 4;
  }
  v128.store(tile, acc);
}
