/*
 * y = x · wᵀ with weights in f32 or bf16, in blocks of 8 rows (layout: tensor/pack.ts). A lane belongs to a row of w; an
 * output is one accumulator that goes through k in ascending order, whatever the tile, so that a row gives the same bits
 * alone and in a batch.
 * Tiles: 6 rows of x × 8 of w fill the 15 registers that V8 hands out (12 sums, 2 of w, 1 of x). Weights go from memory
 * once: as many of them as a cache holds stay there while all x pass by.
 */
import { madd } from "../math.simd";
import { storeBlock } from "./linear-tile.simd";

/** Weights that stay in the cache: 96 KB of a core's 512 KB and more. */
const CACHED_BYTES: i32 = 98304;

/** Of a tile that y does not hold all of, or of the blocks that a few rows meet: (8, 8) f32 (compile.ts knows it). */
const TILE_BYTES: usize = 256;

/** Four weights; W is f32, or u16 for bf16: widened by a shift. */
function weights<W>(pointer: usize): v128 {
  if (sizeof<W>() == 2) return i32x4.shl(v128.load16x4_u(pointer), 16);
  return v128.load(pointer);
}

export function linearFloat<W>(
  y: usize, // (T, O)
  x: usize, // (T, K)
  w: usize, // (O/8, K, 8)
  scratch: usize, // of this thread: a tile, then T rows, rounded up to sixes, of K
  T: i32,
  K: i32,
  O: i32,
  from: i32, // blocks of 8 rows of w
  to: i32,
): void {
  const xs = (<usize>K) << 2;
  const ys = (<usize>O) << 2;
  const bytes = <usize>K * 8 * sizeof<W>();
  const tiled = T % 6 == 5 ? T + 1 : T - (T % 6);
  const panel = scratch + TILE_BYTES;
  for (let t = 0; t < tiled; t += 6) pack(panel + <usize>t * xs, x + <usize>t * xs, K, min(6, T - t));
  const step = tiled == 0 ? to - from : max(1, CACHED_BYTES / <i32>bytes);
  for (let start = from; start < to; start += step) {
    const end = min(to, start + step);
    for (let t = 0; t < tiled; t += 6) {
      for (let b = start; b < end; b++) {
        const p = panel + <usize>t * xs,
          block = w + <usize>b * bytes;
        if (T - t >= 6 && O - b * 8 >= 8) {
          sixRows<W>(y + <usize>t * ys + ((<usize>b) << 5), ys, p, block, K);
        } else {
          sixRows<W>(scratch, 32, p, block, K);
          for (let i = 0; i < min(6, T - t); i++) storeBlock(y, scratch + <usize>i * 32, t + i, O, b);
        }
      }
    }
    const left = T - tiled;
    if (left == 1) oneRow<W>(y, x, w, scratch, tiled, K, O, start, end);
    else if (left == 2) twoRows<W>(y, x, w, scratch, tiled, K, O, start, end);
    else if (left > 2) fourRows<W>(y, x, w, scratch, tiled, left, K, O, start, end);
  }
}

/** The six numbers of one k side by side, so that one pointer finds them all; rows that are missing repeat the first. */
function pack(panel: usize, x: usize, K: i32, rows: i32): void {
  const xs = (<usize>K) << 2;
  for (let i = 0; i < 6; i++) {
    const row = x + (i < rows ? <usize>i * xs : 0);
    let at = panel + ((<usize>i) << 2);
    for (let k: usize = 0; k < xs; k += 4) {
      store<f32>(at, load<f32>(row + k));
      at += 24;
    }
  }
}

/** 6 rows of x × a block of w; rows of `out` are `step` apart. */
function sixRows<W>(out: usize, step: usize, panel: usize, w: usize, K: i32): void {
  let a0 = f32x4.splat(0),
    a1 = a0,
    a2 = a0,
    a3 = a0,
    a4 = a0,
    a5 = a0;
  let b0 = a0,
    b1 = a0,
    b2 = a0,
    b3 = a0,
    b4 = a0,
    b5 = a0;
  for (const end = w + <usize>K * 8 * sizeof<W>(); w < end; w += 8 * sizeof<W>()) {
    const u = weights<W>(w),
      v = weights<W>(w + 4 * sizeof<W>());
    let c = v128.load32_splat(panel);
    a0 = madd(c, u, a0);
    b0 = madd(c, v, b0);
    c = v128.load32_splat(panel, 4);
    a1 = madd(c, u, a1);
    b1 = madd(c, v, b1);
    c = v128.load32_splat(panel, 8);
    a2 = madd(c, u, a2);
    b2 = madd(c, v, b2);
    c = v128.load32_splat(panel, 12);
    a3 = madd(c, u, a3);
    b3 = madd(c, v, b3);
    c = v128.load32_splat(panel, 16);
    a4 = madd(c, u, a4);
    b4 = madd(c, v, b4);
    c = v128.load32_splat(panel, 20);
    a5 = madd(c, u, a5);
    b5 = madd(c, v, b5);
    panel += 24;
  }
  v128.store(out, a0);
  v128.store(out, b0, 16);
  out += step;
  v128.store(out, a1);
  v128.store(out, b1, 16);
  out += step;
  v128.store(out, a2);
  v128.store(out, b2, 16);
  out += step;
  v128.store(out, a3);
  v128.store(out, b3, 16);
  out += step;
  v128.store(out, a4);
  v128.store(out, b4, 16);
  out += step;
  v128.store(out, a5);
  v128.store(out, b5, 16);
}

/** Row t alone reads four blocks side by side, a quarter of the share apart, as in linear-q8. */
function oneRow<W>(y: usize, x: usize, w: usize, tile: usize, t: i32, K: i32, O: i32, from: i32, to: i32): void {
  const bytes = <usize>K * 8 * sizeof<W>();
  const row = x + ((<usize>t * <usize>K) << 2);
  while (from < to) {
    const streams = min(to - from, 4);
    const each = (to - from) / streams;
    const apart = <usize>each * bytes;
    for (let i = 0; i < each; i++) {
      // Where there are fewer than four, the last is read again.
      const w0 = w + <usize>(from + i) * bytes,
        w1 = w0 + (streams > 1 ? apart : 0),
        w2 = w1 + (streams > 2 ? apart : 0),
        w3 = w2 + (streams > 3 ? apart : 0);
      oneByFour<W>(tile, row, w0, w1, w2, w3, K);
      for (let s = 0; s < streams; s++) storeBlock(y, tile + <usize>s * 32, t, O, from + i + s * each);
    }
    from += streams * each;
  }
}

function oneByFour<W>(tile: usize, x: usize, w0: usize, w1: usize, w2: usize, w3: usize, K: i32): void {
  let a0 = f32x4.splat(0),
    a1 = a0,
    a2 = a0,
    a3 = a0;
  let b0 = a0,
    b1 = a0,
    b2 = a0,
    b3 = a0;
  for (const end = x + ((<usize>K) << 2); x < end; x += 4) {
    const c = v128.load32_splat(x);
    a0 = madd(c, weights<W>(w0), a0);
    b0 = madd(c, weights<W>(w0 + 4 * sizeof<W>()), b0);
    a1 = madd(c, weights<W>(w1), a1);
    b1 = madd(c, weights<W>(w1 + 4 * sizeof<W>()), b1);
    a2 = madd(c, weights<W>(w2), a2);
    b2 = madd(c, weights<W>(w2 + 4 * sizeof<W>()), b2);
    a3 = madd(c, weights<W>(w3), a3);
    b3 = madd(c, weights<W>(w3 + 4 * sizeof<W>()), b3);
    w0 += 8 * sizeof<W>();
    w1 += 8 * sizeof<W>();
    w2 += 8 * sizeof<W>();
    w3 += 8 * sizeof<W>();
  }
  v128.store(tile, a0);
  v128.store(tile, b0, 16);
  v128.store(tile, a1, 32);
  v128.store(tile, b1, 48);
  v128.store(tile, a2, 64);
  v128.store(tile, b2, 80);
  v128.store(tile, a3, 96);
  v128.store(tile, b3, 112);
}

/** Rows t and t + 1 read two blocks side by side, half the share apart. */
function twoRows<W>(y: usize, x: usize, w: usize, tile: usize, t: i32, K: i32, O: i32, from: i32, to: i32): void {
  const bytes = <usize>K * 8 * sizeof<W>();
  const row = x + ((<usize>t * <usize>K) << 2);
  while (from < to) {
    const streams = min(to - from, 2);
    const each = (to - from) / streams;
    for (let i = 0; i < each; i++) {
      const w0 = w + <usize>(from + i) * bytes;
      twoByTwo<W>(tile, row, w0, streams > 1 ? w0 + <usize>each * bytes : w0, K);
      for (let s = 0; s < streams; s++) {
        storeBlock(y, tile + <usize>s * 32, t, O, from + i + s * each);
        storeBlock(y, tile + <usize>s * 32 + 64, t + 1, O, from + i + s * each);
      }
    }
    from += streams * each;
  }
}

function twoByTwo<W>(tile: usize, x: usize, w0: usize, w1: usize, K: i32): void {
  const xs = (<usize>K) << 2;
  let a0 = f32x4.splat(0),
    a1 = a0,
    a2 = a0,
    a3 = a0;
  let b0 = a0,
    b1 = a0,
    b2 = a0,
    b3 = a0;
  let x1 = x + xs;
  for (const end = x1; x < end; x += 4) {
    const c = v128.load32_splat(x),
      d = v128.load32_splat(x1);
    let u = weights<W>(w0);
    a0 = madd(c, u, a0);
    b0 = madd(d, u, b0);
    u = weights<W>(w0 + 4 * sizeof<W>());
    a1 = madd(c, u, a1);
    b1 = madd(d, u, b1);
    u = weights<W>(w1);
    a2 = madd(c, u, a2);
    b2 = madd(d, u, b2);
    u = weights<W>(w1 + 4 * sizeof<W>());
    a3 = madd(c, u, a3);
    b3 = madd(d, u, b3);
    x1 += 4;
    w0 += 8 * sizeof<W>();
    w1 += 8 * sizeof<W>();
  }
  v128.store(tile, a0);
  v128.store(tile, a1, 16);
  v128.store(tile, a2, 32);
  v128.store(tile, a3, 48);
  v128.store(tile, b0, 64);
  v128.store(tile, b1, 80);
  v128.store(tile, b2, 96);
  v128.store(tile, b3, 112);
}

/** Three or four rows from t on, block by block. */
function fourRows<W>(
  y: usize,
  x: usize,
  w: usize,
  tile: usize,
  t: i32,
  rows: i32,
  K: i32,
  O: i32,
  from: i32,
  to: i32,
): void {
  const xs = (<usize>K) << 2;
  const bytes = <usize>K * 8 * sizeof<W>();
  const row = x + <usize>t * xs;
  for (let b = from; b < to; b++) {
    fourByOne<W>(tile, row, row + xs, row + 2 * xs, row + <usize>(rows - 1) * xs, w + <usize>b * bytes, K);
    for (let i = 0; i < rows; i++) storeBlock(y, tile + <usize>i * 32, t + i, O, b);
  }
}

function fourByOne<W>(tile: usize, x0: usize, x1: usize, x2: usize, x3: usize, w: usize, K: i32): void {
  let a0 = f32x4.splat(0),
    a1 = a0,
    a2 = a0,
    a3 = a0;
  let b0 = a0,
    b1 = a0,
    b2 = a0,
    b3 = a0;
  for (const end = x0 + ((<usize>K) << 2); x0 < end; x0 += 4) {
    const u = weights<W>(w),
      v = weights<W>(w + 4 * sizeof<W>());
    let c = v128.load32_splat(x0);
    a0 = madd(c, u, a0);
    b0 = madd(c, v, b0);
    c = v128.load32_splat(x1);
    a1 = madd(c, u, a1);
    b1 = madd(c, v, b1);
    c = v128.load32_splat(x2);
    a2 = madd(c, u, a2);
    b2 = madd(c, v, b2);
    c = v128.load32_splat(x3);
    a3 = madd(c, u, a3);
    b3 = madd(c, v, b3);
    x1 += 4;
    x2 += 4;
    x3 += 4;
    w += 8 * sizeof<W>();
  }
  v128.store(tile, a0);
  v128.store(tile, b0, 16);
  v128.store(tile, a1, 32);
  v128.store(tile, b1, 48);
  v128.store(tile, a2, 64);
  v128.store(tile, b2, 80);
  v128.store(tile, a3, 96);
  v128.store(tile, b3, 112);
}
