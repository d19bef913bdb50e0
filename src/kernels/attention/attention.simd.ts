/*
 * Twin of attention.reference.ts. One query row and head at a time: scores over all earlier positions, softmax, weighted
 * sum of values. Every sum runs over positions in one order, wherever their cache rows lie, so that a row gives the same
 * bits in prefill, in decode and as a branch. Work is dealt out to threads row by row and head by head: later rows see more
 * positions.
 */
import { exp1, exp4, madd, sum4 } from "../math.simd";

export function attention(
  out: usize, // (T, H·D)
  q: usize, // (T, H·D)
  keys: usize, // (positions, G·D)
  values: usize, // (positions, G·D)
  scores: usize, // scratch of this thread: (positions), and for the runs of a text (positions, 2)
  T: i32,
  H: i32,
  G: i32,
  D: i32,
  position: i32, // cache row of row 0
  places: usize, // (positions, 3) i32: tensor/places.ts; 0: one text, row by row
  thread: i32,
  threads: i32,
): void {
  const perGroup = H / G;
  const stride = (<usize>(G * D)) << 2;
  const scale = <f32>1 / sqrt<f32>(<f32>D);
  const runs = scores + ((<usize>(position + T)) << 2);
  let listed = -1;
  let lastRun: usize = 0;
  for (let unit = thread; unit < T * H; unit += threads) {
    const t = unit / H;
    const h = unit - t * H;
    const row = (<usize>unit * <usize>D) << 2;
    const head = (<usize>((h / perGroup) * D)) << 2;
    if (t != listed) {
      lastRun = listRuns(runs, places, position + t);
      listed = t;
    }
    let count = 0;
    for (let run = runs; run <= lastRun; run += 8) {
      const start = load<i32>(run),
        length = load<i32>(run, 4);
      const at = scores + ((<usize>count) << 2);
      scoreRow(at, q + row, keys + head + <usize>start * stride, stride, D, scale, length);
      count += length;
    }
    const sum = softmaxRow(scores, count);
    weighRow(out + row, values + head, stride, scores, D, <f32>1 / sum, runs, lastRun);
  }
}

/** Writes the runs of the text that ends in cache row `end`, first to last, as [start, length]; gives the last one's place. */
function listRuns(runs: usize, places: usize, end: i32): usize {
  if (!places) {
    store<i32>(runs, 0);
    store<i32>(runs, end + 1, 4);
    return runs;
  }
  let last = runs;
  for (let row = parentOf(places, end); row >= 0; row = parentOf(places, row)) last += 8;
  for (let run = last; run >= runs; run -= 8) {
    const start = load<i32>(places + <usize>end * 12);
    store<i32>(run, start);
    store<i32>(run, end + 1 - start, 4);
    end = parentOf(places, end);
  }
  return last;
}

function parentOf(places: usize, row: i32): i32 {
  return load<i32>(places + <usize>row * 12, 4);
}

function scoreRow(scores: usize, q: usize, keys: usize, stride: usize, D: i32, scale: f32, count: i32): void {
  const width = (<usize>D) << 2;
  const whole = width & ~15;
  let j = 0;
  for (; j + 4 <= count; j += 4) {
    const k0 = keys + <usize>j * stride,
      k1 = k0 + stride,
      k2 = k1 + stride,
      k3 = k2 + stride;
    let a0 = f32x4.splat(0),
      a1 = f32x4.splat(0),
      a2 = f32x4.splat(0),
      a3 = f32x4.splat(0);
    for (let d: usize = 0; d < whole; d += 16) {
      const x = v128.load(q + d);
      a0 = madd(x, v128.load(k0 + d), a0);
      a1 = madd(x, v128.load(k1 + d), a1);
      a2 = madd(x, v128.load(k2 + d), a2);
      a3 = madd(x, v128.load(k3 + d), a3);
    }
    const at = scores + ((<usize>j) << 2);
    store<f32>(at, finishScore(a0, q, k0, whole, width) * scale);
    store<f32>(at, finishScore(a1, q, k1, whole, width) * scale, 4);
    store<f32>(at, finishScore(a2, q, k2, whole, width) * scale, 8);
    store<f32>(at, finishScore(a3, q, k3, whole, width) * scale, 12);
  }
  for (; j < count; j++) {
    const k = keys + <usize>j * stride;
    let a = f32x4.splat(0);
    for (let d: usize = 0; d < whole; d += 16) a = madd(v128.load(q + d), v128.load(k + d), a);
    store<f32>(scores + ((<usize>j) << 2), finishScore(a, q, k, whole, width) * scale);
  }
}

function finishScore(lanes: v128, q: usize, k: usize, from: usize, to: usize): f32 {
  let sum = sum4(lanes);
  for (let d = from; d < to; d += 4) sum += load<f32>(q + d) * load<f32>(k + d);
  return sum;
}

/** Turns scores into e^(score - largest); gives their sum. */
function softmaxRow(scores: usize, count: i32): f32 {
  const end = scores + ((<usize>count) << 2);
  const whole = scores + ((<usize>(count & ~3)) << 2);
  let largest = f32.NEGATIVE_INFINITY;
  for (let at = scores; at < end; at += 4) largest = max<f32>(largest, load<f32>(at));
  const shift = f32x4.splat(largest);
  let lanes = f32x4.splat(0);
  let at = scores;
  for (; at < whole; at += 16) {
    const e = exp4(f32x4.sub(v128.load(at), shift));
    v128.store(at, e);
    lanes = f32x4.add(lanes, e);
  }
  let sum = sum4(lanes);
  for (; at < end; at += 4) {
    const e = exp1(load<f32>(at) - largest);
    store<f32>(at, e);
    sum += e;
  }
  return sum;
}

function weighRow(
  out: usize,
  values: usize,
  stride: usize,
  weights: usize,
  D: i32,
  scale: f32,
  runs: usize,
  lastRun: usize,
): void {
  const width = (<usize>D) << 2;
  const scales = f32x4.splat(scale);
  let d: usize = 0;
  for (; d + 64 <= width; d += 64) {
    let a0 = f32x4.splat(0),
      a1 = f32x4.splat(0),
      a2 = f32x4.splat(0),
      a3 = f32x4.splat(0);
    let at = weights;
    for (let run = runs; run <= lastRun; run += 8) {
      let v = values + <usize>load<i32>(run) * stride + d;
      for (const end = at + ((<usize>load<i32>(run, 4)) << 2); at < end; at += 4) {
        const p = v128.load32_splat(at);
        a0 = madd(p, v128.load(v), a0);
        a1 = madd(p, v128.load(v, 16), a1);
        a2 = madd(p, v128.load(v, 32), a2);
        a3 = madd(p, v128.load(v, 48), a3);
        v += stride;
      }
    }
    v128.store(out + d, f32x4.mul(a0, scales));
    v128.store(out + d, f32x4.mul(a1, scales), 16);
    v128.store(out + d, f32x4.mul(a2, scales), 32);
    v128.store(out + d, f32x4.mul(a3, scales), 48);
  }
  for (; d + 16 <= width; d += 16) {
    let a = f32x4.splat(0);
    let at = weights;
    for (let run = runs; run <= lastRun; run += 8) {
      let v = values + <usize>load<i32>(run) * stride + d;
      for (const end = at + ((<usize>load<i32>(run, 4)) << 2); at < end; at += 4) {
        a = madd(v128.load32_splat(at), v128.load(v), a);
        v += stride;
      }
    }
    v128.store(out + d, f32x4.mul(a, scales));
  }
  for (; d < width; d += 4) {
    let a: f32 = 0;
    let at = weights;
    for (let run = runs; run <= lastRun; run += 8) {
      let v = values + <usize>load<i32>(run) * stride + d;
      for (const end = at + ((<usize>load<i32>(run, 4)) << 2); at < end; at += 4) {
        a += load<f32>(at) * load<f32>(v);
        v += stride;
      }
    }
    store<f32>(out + d, a * scale);
  }
}
