/*
 * y = x · wᵀ with 8-bit weights and 16-bit activations, both in groups of 32 (layout: tensor/pack.ts).
 * A lane belongs to a row of w: i32x4.dot_i16x8_s sums a pair of k for four rows at once, so that no sum across lanes is
 * needed and a group's integer sum is exact. The group's scales then bring it into an f32 accumulator, in group order,
 * whatever the tile: a row gives the same bits alone and in a batch.
 */
import { f16x4 } from "../math.simd";
import { addFourRows, addScaled, storeBlock } from "./linear-tile.simd";

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
  if (T == 1) {
    oneRow(y, x, w, tile, groups, O, from, to);
    return;
  }
  const xs = <usize>groups * 72;
  const last = x + <usize>(T - 1) * xs;
  for (let b = from; b < to; b++) {
    const block = w + <usize>b * <usize>groups * BLOCK;
    let row = x;
    for (let t = 0; t < T; t += 4) {
      // The last tile repeats the last row where there are fewer than four.
      fourRows(tile, row, min(row + xs, last), min(row + 2 * xs, last), min(row + 3 * xs, last), block, groups);
      for (let i = 0; i < min(4, T - t); i++) storeBlock(y, tile + <usize>i * 32, t + i, O, b);
      row += 4 * xs;
    }
  }
}

/**
 * A single row waits for memory. Four blocks are read side by side, a quarter of the share apart, so that several pages are
 * under way at once: 18–20 GB/s where one block after the other gives 12–13, and two neighbouring ones 10.
 */
function oneRow(y: usize, x: usize, w: usize, tile: usize, groups: i32, O: i32, from: i32, to: i32): void {
  const bytes = <usize>groups * BLOCK;
  while (from < to) {
    const left = to - from;
    const streams = left >= 4 ? 4 : min(left, 2);
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
  for (let g = 0; g < groups; g++) {
    let block = w;
    for (let s = 0; s < streams; s += 2) {
      // Without a partner a block is its own.
      const other = s + 1 < streams ? block + apart : block;
      twoBlocks(tile + <usize>s * 32, x, block, other, scales);
      block += 2 * apart;
    }
    w += BLOCK;
    x += 64;
    scales += 4;
  }
}

/** One group of two blocks. Four sums and no more unrolling: with more, V8 11 moves sums to the stack. */
function twoBlocks(tile: usize, x: usize, w: usize, v: usize, scale: usize): void {
  let a = i32x4.splat(0),
    b = i32x4.splat(0),
    c = i32x4.splat(0),
    d = i32x4.splat(0);
  for (let p: usize = 0; p < 256; p += 32) {
    const x0 = v128.load32_splat(x + (p >> 2)),
      x1 = v128.load32_splat(x + (p >> 2), 4);
    a = pair(a, w + p + 16, x0);
    b = pair(b, w + p + 24, x0);
    c = pair(c, v + p + 16, x0);
    d = pair(d, v + p + 24, x0);
    a = pair(a, w + p + 32, x1);
    b = pair(b, w + p + 40, x1);
    c = pair(c, v + p + 32, x1);
    d = pair(d, v + p + 40, x1);
  }
  addScaled(tile, a, b, f16x4(w), f16x4(w + 8), scale);
  addScaled(tile + 32, c, d, f16x4(v), f16x4(v + 8), scale);
}

function fourRows(tile: usize, x0: usize, x1: usize, x2: usize, x3: usize, w: usize, groups: i32): void {
  memory.fill(tile, 0, 128);
  let toScale = <usize>groups * 64;
  for (let g = 0; g < groups; g++) {
    addFourRows<i8>(tile, x0, x1, x2, x3, toScale, w + 16, f16x4(w), f16x4(w + 8));
    w += BLOCK;
    x0 += 64;
    x1 += 64;
    x2 += 64;
    x3 += 64;
    toScale -= 60; // values move on by 64 bytes, scales by 4
  }
}
