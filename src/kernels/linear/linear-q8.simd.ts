/*
 * y = x · wᵀ with 8-bit weights and 16-bit activations, both in groups of 32 (layout: tensor/pack.ts).
 * A lane belongs to a row of w: i32x4.dot_i16x8_s sums a pair of k for four rows at once, so that no sum across lanes is
 * needed and a group's integer sum is exact. The group's scales then bring it into an f32 accumulator, in group order,
 * whatever the tile: a row gives the same bits alone and in a batch.
 */
import { f16x4, madd } from "../math.simd";

const BLOCK: usize = 272; // 8 f16 scales, 16 pairs of k × 8 rows

/** acc + a pair of k for four rows. */
function pair(acc: v128, w: usize, x: v128): v128 {
  return i32x4.add(acc, i32x4.dot_i16x8_s(v128.load8x8_s(w), x));
}

export function linearQ8(
  y: usize, // (T, O)
  x: usize, // (T) quantized rows
  w: usize, // (O/8, groups) blocks
  tile: usize, // scratch of this thread: (4, 8) f32
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
    let t = 0;
    for (; t + 4 <= T; t += 4) {
      fourRows(tile, x + <usize>t * xs, xs, block, groups);
      for (let i = 0; i < 4; i++) copyRow(y, tile + <usize>i * 32, t + i, O, b, rows);
    }
    for (; t < T; t++) {
      oneRow(tile, x + <usize>t * xs, block, groups);
      copyRow(y, tile, t, O, b, rows);
    }
  }
}

function copyRow(y: usize, tile: usize, t: i32, O: i32, b: i32, rows: i32): void {
  memory.copy(y + ((<usize>t * <usize>O + <usize>b * 8) << 2), tile, (<usize>rows) << 2);
}

function oneRow(tile: usize, x: usize, w: usize, groups: i32): void {
  let low = f32x4.splat(0),
    high = f32x4.splat(0);
  let scales = x + <usize>groups * 64;
  for (let g = 0; g < groups; g++) {
    let a = i32x4.splat(0),
      b = i32x4.splat(0),
      c = i32x4.splat(0),
      d = i32x4.splat(0);
    for (let p: usize = 0; p < 4; p++) {
      const q = w + 16 + p * 64;
      const x0 = v128.load32_splat(x + p * 16),
        x1 = v128.load32_splat(x + p * 16, 4);
      const x2 = v128.load32_splat(x + p * 16, 8),
        x3 = v128.load32_splat(x + p * 16, 12);
      a = pair(a, q, x0);
      b = pair(b, q + 8, x0);
      c = pair(c, q + 16, x1);
      d = pair(d, q + 24, x1);
      a = pair(a, q + 32, x2);
      b = pair(b, q + 40, x2);
      c = pair(c, q + 48, x3);
      d = pair(d, q + 56, x3);
    }
    const s = v128.load32_splat(scales);
    low = madd(f32x4.convert_i32x4_s(i32x4.add(a, c)), f32x4.mul(f16x4(w), s), low);
    high = madd(f32x4.convert_i32x4_s(i32x4.add(b, d)), f32x4.mul(f16x4(w + 8), s), high);
    w += BLOCK;
    x += 64;
    scales += 4;
  }
  v128.store(tile, low);
  v128.store(tile, high, 16);
}

function fourRows(tile: usize, x: usize, xs: usize, w: usize, groups: i32): void {
  const zero = f32x4.splat(0);
  for (let i: usize = 0; i < 128; i += 16) v128.store(tile + i, zero);
  let scales = x + <usize>groups * 64;
  for (let g = 0; g < groups; g++) {
    let a0 = i32x4.splat(0),
      a1 = i32x4.splat(0),
      a2 = i32x4.splat(0),
      a3 = i32x4.splat(0);
    let b0 = i32x4.splat(0),
      b1 = i32x4.splat(0),
      b2 = i32x4.splat(0),
      b3 = i32x4.splat(0);
    let q = w + 16;
    for (let p = x; p < x + 64; p += 4) {
      const u = v128.load8x8_s(q),
        v = v128.load8x8_s(q, 8);
      let c = v128.load32_splat(p);
      a0 = i32x4.add(a0, i32x4.dot_i16x8_s(u, c));
      b0 = i32x4.add(b0, i32x4.dot_i16x8_s(v, c));
      c = v128.load32_splat(p + xs);
      a1 = i32x4.add(a1, i32x4.dot_i16x8_s(u, c));
      b1 = i32x4.add(b1, i32x4.dot_i16x8_s(v, c));
      c = v128.load32_splat(p + 2 * xs);
      a2 = i32x4.add(a2, i32x4.dot_i16x8_s(u, c));
      b2 = i32x4.add(b2, i32x4.dot_i16x8_s(v, c));
      c = v128.load32_splat(p + 3 * xs);
      a3 = i32x4.add(a3, i32x4.dot_i16x8_s(u, c));
      b3 = i32x4.add(b3, i32x4.dot_i16x8_s(v, c));
      q += 16;
    }
    const low = f16x4(w),
      high = f16x4(w + 8);
    addGroup(tile, a0, b0, low, high, scales);
    addGroup(tile + 32, a1, b1, low, high, scales + xs);
    addGroup(tile + 64, a2, b2, low, high, scales + 2 * xs);
    addGroup(tile + 96, a3, b3, low, high, scales + 3 * xs);
    w += BLOCK;
    x += 64;
    scales += 4;
  }
}

function addGroup(tile: usize, a: v128, b: v128, low: v128, high: v128, scale: usize): void {
  const s = v128.load32_splat(scale);
  v128.store(tile, madd(f32x4.convert_i32x4_s(a), f32x4.mul(low, s), v128.load(tile)));
  v128.store(tile, madd(f32x4.convert_i32x4_s(b), f32x4.mul(high, s), v128.load(tile, 16)), 16);
}
