/*
 * y = x · wᵀ with weights in f32 or bf16, in blocks of 8 rows (layout: tensor/pack.ts). A lane belongs to a row of w; an
 * output is one accumulator that goes through k in ascending order, whatever the tile, so that a row gives the same bits
 * alone and in a batch.
 * Tiles: 6 rows of x × 8 of w fill the 15 registers that V8 hands out (12 sums, 2 of w, 1 of x). Weights go from memory
 * once: as many of them as a cache holds stay there while all x pass by. And they come from four places at once, a quarter
 * of the share apart, as in linear-q8: one after the other, blocks arrive at 10–12 GB/s, so at 17–20.
 */
import { madd } from "../math.simd";
import { storeBlock } from "./linear-tile.simd";

/** Weights that stay in the cache, of a core's 512 KB and more. */
const CACHED_BYTES: i32 = 98304;

/** Blocks side by side. */
const STREAMS: i32 = 4;

/** Of K, where tiles over the blocks side by side take turns. */
const TURN: i32 = 32;

/** A tile of each stream (compile.ts has the sum). */
const TILE_BYTES: usize = 192;

/** Four weights; W is f32, or u16 for bf16: widened by a shift. */
function weights<W>(pointer: usize): v128 {
  if (sizeof<W>() == 2) return i32x4.shl(v128.load16x4_u(pointer), 16);
  return v128.load(pointer);
}

export function linearFloat<W>(
  y: usize, // (T, O)
  x: usize, // (T, K)
  w: usize, // (O/8, K, 8)
  scratch: usize, // of this thread: tiles, then T rows, rounded up to sixes, of K
  T: i32,
  K: i32,
  O: i32,
  from: i32, // blocks of 8 rows of w
  to: i32,
): void {
  const xs = (<usize>K) << 2;
  const bytes = <usize>K * 8 * sizeof<W>();
  // One or two rows more than whole tiles go without one.
  const tiled = T % 6 < 3 ? T - (T % 6) : T;
  const panel = scratch + <usize>STREAMS * TILE_BYTES;
  for (let t = 0; t < tiled; t += 6) pack(panel + <usize>t * xs, x + <usize>t * xs, K, min(6, T - t));
  while (from < to) {
    const streams = min(to - from, STREAMS);
    const each = (to - from) / streams;
    const step = T <= 6 ? each : max(1, CACHED_BYTES / (<i32>bytes * streams));
    for (let start = from; start < from + each; start += step) {
      const end = min(from + each, start + step);
      for (let t = 0; t < tiled; t += 6) {
        const turn = t == 0 ? TURN : K; // the first brings the blocks into the cache
        for (let b = start; b < end; b++) {
          tiles<W>(y, panel + <usize>t * xs, w, scratch, t, min(6, T - t), K, O, b, each, streams, turn);
        }
      }
      if (T - tiled == 1) {
        for (let b = start; b < end; b++) oneRow<W>(y, x, w, scratch, tiled, K, O, b, each, streams);
      } else if (T - tiled == 2) {
        for (let b = start; b < end; b++) twoRows<W>(y, x, w, scratch, tiled, K, O, b, each, streams);
      }
    }
    from += streams * each;
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

/** Up to six rows of x from t on × each stream's block: b and those `each` after it. */
function tiles<W>(
  y: usize,
  panel: usize,
  w: usize,
  tile: usize,
  t: i32,
  rows: i32,
  K: i32,
  O: i32,
  b: i32,
  each: i32,
  streams: i32,
  turn: i32,
): void {
  const ys = (<usize>O) << 2;
  const bytes = <usize>K * 8 * sizeof<W>();
  // Sums on their way lie close together: rows of y are often 4 KB apart, and would drive each other from the cache.
  const direct = turn >= K && (rows == 6 || rows == 4);
  for (let k = 0; k < K; k += turn) {
    const p = panel + <usize>k * 24;
    const count = min(turn, K - k);
    for (let s = 0; s < streams; s++) {
      const block = b + s * each;
      const isWhole = direct && O - block * 8 >= 8;
      const out = isWhole ? y + <usize>t * ys + ((<usize>block) << 5) : tile + <usize>s * TILE_BYTES;
      const step = isWhole ? ys : 32;
      const from = w + <usize>block * bytes + <usize>k * 8 * sizeof<W>();
      if (rows > 4) sixRows<W>(out, step, p, from, count, k > 0);
      else fourRows<W>(out, step, p, from, count, k > 0);
    }
  }
  for (let s = 0; s < streams; s++) {
    const block = b + s * each;
    if (direct && O - block * 8 >= 8) continue;
    for (let i = 0; i < rows; i++) storeBlock(y, tile + <usize>s * TILE_BYTES + ((<usize>i) << 5), t + i, O, block);
  }
}

/**
 * 6 rows of x × a block of w, `count` of K; rows of `out` are `step` apart. If it `continues`, `out` holds the sums so far.
 */
function sixRows<W>(out: usize, step: usize, panel: usize, w: usize, count: i32, continues: bool): void {
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
  if (continues) {
    let at = out;
    a0 = v128.load(at);
    b0 = v128.load(at, 16);
    at += step;
    a1 = v128.load(at);
    b1 = v128.load(at, 16);
    at += step;
    a2 = v128.load(at);
    b2 = v128.load(at, 16);
    at += step;
    a3 = v128.load(at);
    b3 = v128.load(at, 16);
    at += step;
    a4 = v128.load(at);
    b4 = v128.load(at, 16);
    at += step;
    a5 = v128.load(at);
    b5 = v128.load(at, 16);
  }
  for (const end = w + <usize>count * 8 * sizeof<W>(); w < end; w += 8 * sizeof<W>()) {
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

/** As `sixRows`, 4 rows of a panel. */
function fourRows<W>(out: usize, step: usize, panel: usize, w: usize, count: i32, continues: bool): void {
  let a0 = f32x4.splat(0),
    a1 = a0,
    a2 = a0,
    a3 = a0;
  let b0 = a0,
    b1 = a0,
    b2 = a0,
    b3 = a0;
  if (continues) {
    let at = out;
    a0 = v128.load(at);
    b0 = v128.load(at, 16);
    at += step;
    a1 = v128.load(at);
    b1 = v128.load(at, 16);
    at += step;
    a2 = v128.load(at);
    b2 = v128.load(at, 16);
    at += step;
    a3 = v128.load(at);
    b3 = v128.load(at, 16);
  }
  for (const end = w + <usize>count * 8 * sizeof<W>(); w < end; w += 8 * sizeof<W>()) {
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
}

/** Row t alone. */
function oneRow<W>(
  y: usize,
  x: usize,
  w: usize,
  tile: usize,
  t: i32,
  K: i32,
  O: i32,
  b: i32,
  each: i32,
  streams: i32,
): void {
  const bytes = <usize>K * 8 * sizeof<W>();
  const apart = <usize>each * bytes;
  // Where there are fewer than four blocks, the last is read again.
  const w0 = w + <usize>b * bytes,
    w1 = w0 + (streams > 1 ? apart : 0),
    w2 = w1 + (streams > 2 ? apart : 0),
    w3 = w2 + (streams > 3 ? apart : 0);
  oneByFour<W>(tile, x + ((<usize>t * <usize>K) << 2), w0, w1, w2, w3, K);
  for (let s = 0; s < streams; s++) storeBlock(y, tile + ((<usize>s) << 5), t, O, b + s * each);
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

/** Rows t and t + 1, two blocks at a time. */
function twoRows<W>(
  y: usize,
  x: usize,
  w: usize,
  tile: usize,
  t: i32,
  K: i32,
  O: i32,
  b: i32,
  each: i32,
  streams: i32,
): void {
  const bytes = <usize>K * 8 * sizeof<W>();
  const row = x + ((<usize>t * <usize>K) << 2);
  for (let s = 0; s < streams; s += 2) {
    const block = b + s * each;
    const other = s + 1 < streams ? block + each : block;
    twoByTwo<W>(tile, row, w + <usize>block * bytes, w + <usize>other * bytes, K);
    storeBlock(y, tile, t, O, block);
    storeBlock(y, tile + 32, t, O, other);
    storeBlock(y, tile + 64, t + 1, O, block);
    storeBlock(y, tile + 96, t + 1, O, other);
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
