/*
 * y = x · wᵀ with weights in f32 or bf16, row by row as in the file. A lane sums every fourth k; an output is one
 * accumulator summed in one order, whatever the tile, so that a row gives the same bits alone and in a batch.
 * Tiles: 4 rows of x × 2 of w keep eight accumulators busy; a single row takes 4 of w.
 */
import { madd, sum4 } from "../math.simd";

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
  T: i32,
  K: i32,
  O: i32,
  from: i32, // rows of w
  to: i32,
): void {
  const xs = (<usize>K) << 2;
  const ws = <usize>K * sizeof<W>();
  const ys = (<usize>O) << 2;
  const whole = K & ~3;
  let t = 0;
  for (; t + 4 <= T; t += 4) {
    const x0 = x + <usize>t * xs,
      x1 = x0 + xs,
      x2 = x1 + xs,
      x3 = x2 + xs;
    let o = from;
    for (; o + 2 <= to; o += 2) {
      const w0 = w + <usize>o * ws,
        w1 = w0 + ws;
      let a0 = f32x4.splat(0),
        a1 = f32x4.splat(0),
        a2 = f32x4.splat(0),
        a3 = f32x4.splat(0);
      let b0 = f32x4.splat(0),
        b1 = f32x4.splat(0),
        b2 = f32x4.splat(0),
        b3 = f32x4.splat(0);
      let kx: usize = 0,
        kw: usize = 0;
      for (let k = 0; k < whole; k += 4) {
        const u = weights<W>(w0 + kw),
          v = weights<W>(w1 + kw);
        let c = v128.load(x0 + kx);
        a0 = madd(c, u, a0);
        b0 = madd(c, v, b0);
        c = v128.load(x1 + kx);
        a1 = madd(c, u, a1);
        b1 = madd(c, v, b1);
        c = v128.load(x2 + kx);
        a2 = madd(c, u, a2);
        b2 = madd(c, v, b2);
        c = v128.load(x3 + kx);
        a3 = madd(c, u, a3);
        b3 = madd(c, v, b3);
        kx += 16;
        kw += 4 * sizeof<W>();
      }
      const out = y + <usize>t * ys + ((<usize>o) << 2);
      store<f32>(out, finish<W>(a0, x0, w0, whole, K));
      store<f32>(out, finish<W>(b0, x0, w1, whole, K), 4);
      store<f32>(out + ys, finish<W>(a1, x1, w0, whole, K));
      store<f32>(out + ys, finish<W>(b1, x1, w1, whole, K), 4);
      store<f32>(out + 2 * ys, finish<W>(a2, x2, w0, whole, K));
      store<f32>(out + 2 * ys, finish<W>(b2, x2, w1, whole, K), 4);
      store<f32>(out + 3 * ys, finish<W>(a3, x3, w0, whole, K));
      store<f32>(out + 3 * ys, finish<W>(b3, x3, w1, whole, K), 4);
    }
    if (o < to) for (let i = 0; i < 4; i++) oneRow<W>(y, x, w, t + i, K, O, o, to);
  }
  for (; t < T; t++) oneRow<W>(y, x, w, t, K, O, from, to);
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
