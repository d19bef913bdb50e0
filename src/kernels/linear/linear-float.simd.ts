/*
 * y = x · wᵀ with weights in f32 or bf16, row by row as in the file. A lane sums every fourth k; an output is one
 * accumulator summed in one order, whatever the tile, so that a row gives the same bits alone and in a batch.
 * Tiles: 6 rows of x × 2 of w fill the 15 registers that V8 hands out (12 sums, 2 of w, 1 of x); rows of x left over take
 * 4 of w at a time. Weights go from memory once: a block of them stays in the second-level cache while all x pass by.
 */
import { madd, sum4 } from "../math.simd";

/** Rows of w that lie side by side in the cache: 96 KB of them, of a core's 512 KB and more. */
const BLOCK_BYTES: i32 = 98304;

/** Of a tile: 12 vectors, and rest up to a cache line. */
const SUMS_BYTES: usize = 192;

/** Four weights; W is f32, or u16 for bf16: widened by a shift. */
function weights<W>(pointer: usize): v128 {
  if (sizeof<W>() == 2) return i32x4.shl(v128.load16x4_u(pointer), 16);
  return v128.load(pointer);
}

function weight<W>(pointer: usize): f32 {
  if (sizeof<W>() == 2) return reinterpret<f32>((<u32>load<u16>(pointer)) << 16);
  return load<f32>(pointer);
}

function finish<W>(lanes: v128, x: usize, w: usize, whole: i32, K: i32): f32 {
  let sum = sum4(lanes);
  for (let k = whole; k < K; k++) {
    sum += load<f32>(x + ((<usize>k) << 2)) * weight<W>(w + <usize>k * sizeof<W>());
  }
  return sum;
}

export function linearFloat<W>(
  y: usize, // (T, O)
  x: usize, // (T, K)
  w: usize, // (O, K)
  scratch: usize, // of this thread: sums of a tile, then T rows, rounded up to sixes, of K
  T: i32,
  K: i32,
  O: i32,
  from: i32, // rows of w
  to: i32,
): void {
  const xs = (<usize>K) << 2;
  const ws = <usize>K * sizeof<W>();
  const ys = (<usize>O) << 2;
  // One or two rows more than whole tiles are cheaper alone.
  const tiled = T % 6 < 3 ? T - (T % 6) : T;
  const panel = scratch + SUMS_BYTES;
  for (let t = 0; t < tiled; t += 6) pack(panel + <usize>t * xs, x + <usize>t * xs, K, min(6, T - t));
  const block = tiled == 0 ? to - from : max(4, (BLOCK_BYTES / <i32>ws) & ~3);
  for (let start = from; start < to; start += block) {
    const end = min(to, start + block);
    const pairs = tiled == 0 ? start : start + ((end - start) & ~1);
    for (let t = 0; t < tiled; t += 6) {
      const skip = <usize>t * xs;
      const out = y + <usize>t * ys;
      for (let o = start; o < pairs; o += 2) {
        tile<W>(out + ((<usize>o) << 2), ys, panel + skip, x + skip, w + <usize>o * ws, K, min(6, T - t), scratch);
      }
    }
    for (let t = 0; t < tiled && t < T; t++) oneRow<W>(y, x, w, t, K, O, pairs, end);
    for (let t = tiled; t < T; t++) oneRow<W>(y, x, w, t, K, O, start, end);
  }
}

/** Four of K of six rows side by side, so that one pointer finds them all; rows that are missing repeat the first. */
function pack(panel: usize, x: usize, K: i32, rows: i32): void {
  const xs = (<usize>K) << 2;
  const end = xs & ~15;
  for (let i = 0; i < 6; i++) {
    const row = x + (i < rows ? <usize>i * xs : 0);
    let at = panel + ((<usize>i) << 4);
    for (let k: usize = 0; k < end; k += 16) {
      v128.store(at, v128.load(row + k));
      at += 96;
    }
  }
}

/** Up to 6 rows of x × 2 of w. */
function tile<W>(out: usize, ys: usize, panel: usize, x: usize, w: usize, K: i32, rows: i32, sums: usize): void {
  const xs = (<usize>K) << 2;
  const w1 = w + <usize>K * sizeof<W>();
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
  const whole = K & ~3;
  let u0 = w,
    v0 = w1;
  for (const end = panel + <usize>(whole >> 2) * 96; panel < end; panel += 96) {
    const u = weights<W>(u0),
      v = weights<W>(v0);
    let c = v128.load(panel);
    a0 = madd(c, u, a0);
    b0 = madd(c, v, b0);
    c = v128.load(panel, 16);
    a1 = madd(c, u, a1);
    b1 = madd(c, v, b1);
    c = v128.load(panel, 32);
    a2 = madd(c, u, a2);
    b2 = madd(c, v, b2);
    c = v128.load(panel, 48);
    a3 = madd(c, u, a3);
    b3 = madd(c, v, b3);
    c = v128.load(panel, 64);
    a4 = madd(c, u, a4);
    b4 = madd(c, v, b4);
    c = v128.load(panel, 80);
    a5 = madd(c, u, a5);
    b5 = madd(c, v, b5);
    u0 += 4 * sizeof<W>();
    v0 += 4 * sizeof<W>();
  }
  // Out of the registers at once: a sum that lived through the code below would be spilled in every turn of the loop.
  v128.store(sums, a0);
  v128.store(sums, b0, 16);
  v128.store(sums, a1, 32);
  v128.store(sums, b1, 48);
  v128.store(sums, a2, 64);
  v128.store(sums, b2, 80);
  v128.store(sums, a3, 96);
  v128.store(sums, b3, 112);
  v128.store(sums, a4, 128);
  v128.store(sums, b4, 144);
  v128.store(sums, a5, 160);
  v128.store(sums, b5, 176);
  for (let i = 0; i < rows; i++) {
    store<f32>(out, finish<W>(v128.load(sums), x, w, whole, K));
    store<f32>(out, finish<W>(v128.load(sums, 16), x, w1, whole, K), 4);
    out += ys;
    x += xs;
    sums += 32;
  }
}

function oneRow<W>(y: usize, x: usize, w: usize, t: i32, K: i32, O: i32, from: i32, to: i32): void {
  const ws = <usize>K * sizeof<W>();
  const whole = K & ~3;
  const row = x + ((<usize>t * <usize>K) << 2);
  const out = y + ((<usize>t * <usize>O) << 2);
  let o = from;
  for (; o + 4 <= to; o += 4) {
    const w0 = w + <usize>o * ws,
      w1 = w0 + ws,
      w2 = w1 + ws,
      w3 = w2 + ws;
    let a0 = f32x4.splat(0),
      a1 = f32x4.splat(0),
      a2 = f32x4.splat(0),
      a3 = f32x4.splat(0);
    let kw: usize = 0;
    for (let k = 0; k < whole; k += 4) {
      const c = v128.load(row + ((<usize>k) << 2));
      a0 = madd(c, weights<W>(w0 + kw), a0);
      a1 = madd(c, weights<W>(w1 + kw), a1);
      a2 = madd(c, weights<W>(w2 + kw), a2);
      a3 = madd(c, weights<W>(w3 + kw), a3);
      kw += 4 * sizeof<W>();
    }
    const at = out + ((<usize>o) << 2);
    store<f32>(at, finish<W>(a0, row, w0, whole, K));
    store<f32>(at, finish<W>(a1, row, w1, whole, K), 4);
    store<f32>(at, finish<W>(a2, row, w2, whole, K), 8);
    store<f32>(at, finish<W>(a3, row, w3, whole, K), 12);
  }
  for (; o < to; o++) {
    const w0 = w + <usize>o * ws;
    let a = f32x4.splat(0);
    for (let k = 0; k < whole; k += 4) {
      a = madd(v128.load(row + ((<usize>k) << 2)), weights<W>(w0 + <usize>k * sizeof<W>()), a);
    }
    store<f32>(out + ((<usize>o) << 2), finish<W>(a, row, w0, whole, K));
  }
}
