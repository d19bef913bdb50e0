/*
 * y = x · wᵀ with 4-bit weights (value·scale + minimum) and 16-bit activations, in groups of 32 (tensor/pack.ts).
 * As linear-q8; a 16-bit lane of w holds four values of one row. A single row masks them where they stand, worth 1, 16
 * and 256 times themselves, and shifts back after the group (exact: 3840·32767·8 < 2³¹); several rows unpack a group
 * first and share it. The minimum meets the group's sum of x.
 */
import { f16x4, madd } from "../math.simd";
import { addFourRows, storeBlock } from "./linear-tile.simd";

const BLOCK: usize = 160; // 8 f16 scales, 8 f16 minima, 4 × (rows 0–3, rows 4–7) × 16 bytes

export function linearQ4(
  y: usize, // (T, O)
  x: usize, // (T) quantized rows
  w: usize, // (O/8, groups) blocks
  tile: usize, // scratch of this thread: (4, 8) f32, then (16, 8, 2) i16
  T: i32,
  K: i32,
  O: i32,
  from: i32, // blocks of 8 rows of w
  to: i32,
): void {
  const groups = (K + 31) / 32;
  const bytes = <usize>groups * BLOCK;
  if (T == 1) {
    oneRow(y, x, w, tile, groups, O, from, to);
    return;
  }
  const xs = <usize>groups * 72;
  const last = x + <usize>(T - 1) * xs;
  for (let b = from; b < to; b++) {
    let row = x;
    for (let t = 0; t < T; t += 4) {
      // The last tile repeats the last row where there are fewer than four.
      fourRows(
        tile,
        row,
        min(row + xs, last),
        min(row + 2 * xs, last),
        min(row + 3 * xs, last),
        w + <usize>b * bytes,
        groups,
      );
      for (let i = 0; i < min(4, T - t); i++) storeBlock(y, tile + <usize>i * 32, t + i, O, b);
      row += 4 * xs;
    }
  }
}

function fourRows(tile: usize, x0: usize, x1: usize, x2: usize, x3: usize, w: usize, groups: i32): void {
  const wide = tile + 128;
  memory.fill(tile, 0, 128);
  let toScale = <usize>groups * 64;
  const toSum = <usize>groups * 4;
  for (let g = 0; g < groups; g++) {
    unpack(wide, w + 32);
    addFourRows<i16>(tile, x0, x1, x2, x3, toScale, wide, f16x4(w), f16x4(w + 8));
    const low = f16x4(w + 16),
      high = f16x4(w + 24);
    addMinima(tile, low, high, x0 + toScale + toSum);
    addMinima(tile + 32, low, high, x1 + toScale + toSum);
    addMinima(tile + 64, low, high, x2 + toScale + toSum);
    addMinima(tile + 96, low, high, x3 + toScale + toSum);
    w += BLOCK;
    x0 += 64;
    x1 += 64;
    x2 += 64;
    x3 += 64;
    toScale -= 60; // values move on by 64 bytes, scales by 4
  }
}

/** A group's nibbles to 16 pairs of k × 8 rows × 16 bits. */
function unpack(wide: usize, q: usize): void {
  const mask = i16x8.splat(15);
  for (let s = 0; s < 4; s++) {
    for (let half: usize = 0; half < 32; half += 16) {
      const v = v128.load(q + half);
      v128.store(wide + half, v128.and(v, mask));
      v128.store(wide + half, v128.and(i16x8.shr_u(v, 4), mask), 32);
      v128.store(wide + half, v128.and(i16x8.shr_u(v, 8), mask), 64);
      v128.store(wide + half, i16x8.shr_u(v, 12), 96);
    }
    q += 32;
    wide += 128;
  }
}

function addMinima(sums: usize, low: v128, high: v128, sum: usize): void {
  const s = v128.load32_splat(sum);
  v128.store(sums, madd(low, s, v128.load(sums)));
  v128.store(sums, madd(high, s, v128.load(sums, 16)), 16);
}

/** A single row reads four blocks side by side, as in linear-q8. */
function oneRow(y: usize, x: usize, w: usize, tile: usize, groups: i32, O: i32, from: i32, to: i32): void {
  const bytes = <usize>groups * BLOCK;
  while (from < to) {
    const left = to - from;
    const streams = min(left, 4);
    const each = left / streams;
    for (let i = 0; i < each; i++) {
      sideBySide(tile, x, w + <usize>(from + i) * bytes, <usize>each * bytes, streams, groups);
      for (let s = 0; s < streams; s++) storeBlock(y, tile + <usize>s * 32, 0, O, from + i + s * each);
    }
    from += streams * each;
  }
}

function sideBySide(tile: usize, x: usize, w: usize, apart: usize, streams: i32, groups: i32): void {
  memory.fill(tile, 0, 128);
  let scales = x + <usize>groups * 64;
  const sums = <usize>groups * 4;
  for (let g = 0; g < groups; g++) {
    for (let half = 0; half < 2 * streams; half++) {
      const at = w + <usize>(half >> 1) * apart;
      addHalf(tile + <usize>half * 16, x, at + <usize>(half & 1) * 8, at + 32 + <usize>(half & 1) * 16, scales, sums);
    }
    w += BLOCK;
    x += 64;
    scales += 4;
  }
}

/** One group of four rows; their scales at `w`, their minima 16 bytes after. */
function addHalf(sums: usize, x: usize, w: usize, q: usize, scale: usize, toSum: usize): void {
  const mask0 = i16x8.splat(0x000f),
    mask1 = i16x8.splat(0x00f0),
    mask2 = i16x8.splat(0x0f00);
  let a0 = i32x4.splat(0),
    a1 = i32x4.splat(0),
    a2 = i32x4.splat(0);
  for (let s: usize = 0; s < 64; s += 16) {
    const v = v128.load(q + s * 2);
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(v128.and(v, mask0), v128.load32_splat(x + s)));
    a1 = i32x4.add(a1, i32x4.dot_i16x8_s(v128.and(v, mask1), v128.load32_splat(x + s, 4)));
    a2 = i32x4.add(a2, i32x4.dot_i16x8_s(v128.and(v, mask2), v128.load32_splat(x + s, 8)));
    a0 = i32x4.add(a0, i32x4.dot_i16x8_s(i16x8.shr_u(v, 12), v128.load32_splat(x + s, 12)));
  }
  const sum = i32x4.add(a0, i32x4.add(i32x4.shr_s(a1, 4), i32x4.shr_s(a2, 8)));
  const factor = f32x4.mul(f16x4(w), v128.load32_splat(scale));
  const scaled = madd(f32x4.convert_i32x4_s(sum), factor, v128.load(sums));
  v128.store(sums, madd(f16x4(w + 16), v128.load32_splat(scale + toSum), scaled));
}
