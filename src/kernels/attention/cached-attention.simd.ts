/*
 * Twin of attention.reference.ts over a cache. One query row at a time, three heads that share keys and values (MobileLLM's groups) or
 * one: scores over all earlier positions, softmax, weighted sum of values. Every sum runs over positions in one order,
 * wherever their cache rows lie, so that a row gives the same bits in prefill, in decode and as a branch. Work is dealt out
 * to threads row by row and group by group: later rows see more positions.
 */
import { exp1, exp4, madd, max4, sum4 } from "../math.simd";

export function cachedAttention(
  out: usize, // (T, H·D)
  q: usize, // (T, H·D)
  keys: usize, // (positions, G·D)
  values: usize, // (positions, G·D)
  slots: usize, // (T) i32: cache rows; 0: from `position` on
  places: usize, // (positions, 3) i32: tensor/places.ts; 0: one text, row by row
  H: i32,
  G: i32,
  D: i32,
  positions: i32,
  position: i32, // cache row of row 0
  T: i32,
  scratch: usize, // of this thread: (3, positions + 1) for scores of three heads, (positions, 2) for the runs of a text
  from: i32, // units: row by row of the first group, of the second, …
  to: i32,
): void {
  const perGroup = H / G;
  const stride = (<usize>(G * D)) << 2;
  const width = (<usize>D) << 2;
  const scale = <f32>1 / sqrt<f32>(<f32>D);
  const apart = (<usize>(positions + 1)) << 2; // one head's scores, and 1 / their sum
  const runs = scratch + 3 * apart;
  for (let unit = from; unit < to; unit++) {
    // Group by group, so that the keys and values of one stay in the cache for all rows.
    const g = unit / T;
    const t = unit - g * T;
    const lastRun = listRuns(runs, places, slots ? load<i32>(slots + ((<usize>t) << 2)) : position + t);
    const group = <usize>g * width;
    const end = <usize>(t * H + (g + 1) * perGroup) * width;
    for (let row = end - <usize>perGroup * width; row < end;) {
      // Three heads read each key and value once; a rest goes one by one.
      const heads = row + 3 * width <= end ? 3 : 1;
      let count = 0;
      for (let run = runs; run <= lastRun; run += 8) {
        const start = load<i32>(run),
          length = load<i32>(run, 4);
        const at = scratch + ((<usize>count) << 2);
        const key = keys + group + <usize>start * stride;
        if (heads == 3) scoreThree(at, apart, q + row, key, stride, D, length);
        else scoreOne(at, q + row, key, stride, D, length);
        count += length;
      }
      for (let h = 0; h < heads; h++) softmaxRow(scratch + <usize>h * apart, scale, count);
      if (heads == 3) weighThree(out + row, values + group, stride, scratch, apart, D, count, runs, lastRun);
      else weighOne(out + row, 0, values + group, stride, scratch, D, count, runs, lastRun);
      row += <usize>heads * width;
    }
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

function scoreOne(scores: usize, q: usize, keys: usize, stride: usize, D: i32, count: i32): void {
  const width = (<usize>D) << 2;
  const whole = width & ~15;
  let j = 0;
  for (; j + 4 <= count; j += 4) {
    const k0 = keys + <usize>j * stride,
      k1 = k0 + stride,
      k2 = k1 + stride,
      k3 = k2 + stride;
    let a0 = f32x4.splat(0),
      a1 = a0,
      a2 = a0,
      a3 = a0;
    for (let d: usize = 0; d < whole; d += 16) {
      const x = v128.load(q + d);
      a0 = madd(x, v128.load(k0 + d), a0);
      a1 = madd(x, v128.load(k1 + d), a1);
      a2 = madd(x, v128.load(k2 + d), a2);
      a3 = madd(x, v128.load(k3 + d), a3);
    }
    const at = scores + ((<usize>j) << 2);
    v128.store(at, sumEach(a0, a1, a2, a3));
    finishScores(at, q, k0, stride, whole, width, 4);
  }
  for (; j < count; j++) {
    const k = keys + <usize>j * stride;
    let a = f32x4.splat(0);
    for (let d: usize = 0; d < whole; d += 16) a = madd(v128.load(q + d), v128.load(k + d), a);
    const at = scores + ((<usize>j) << 2);
    store<f32>(at, sum4(a));
    finishScores(at, q, k, stride, whole, width, 1);
  }
}

/** The same for three neighbouring heads: three keys at a time leave 9 sums, 3 of q and 1 of a key in 15 registers. */
function scoreThree(scores: usize, apart: usize, q: usize, keys: usize, stride: usize, D: i32, count: i32): void {
  const width = (<usize>D) << 2;
  const whole = width & ~15;
  let j = 0;
  for (; j + 3 <= count; j += 3) {
    const at = scores + ((<usize>j) << 2);
    const k = keys + <usize>j * stride;
    multiplyThree(at, apart, q, width, k, stride, whole);
    for (let h: usize = 0; h < 3; h++) {
      finishScores(at + h * apart, q + h * width, k, stride, whole, width, 3);
    }
  }
  if (j == count) return;
  const at = scores + ((<usize>j) << 2);
  const rest = keys + <usize>j * stride;
  for (let h: usize = 0; h < 3; h++) scoreOne(at + h * apart, q + h * width, rest, stride, D, count - j);
}

/** Sums of whole vectors of three rows of q with three keys; each head's fourth number is rubbish. */
function multiplyThree(
  sums: usize,
  apart: usize,
  q: usize,
  width: usize,
  k0: usize,
  stride: usize,
  whole: usize,
): void {
  const k1 = k0 + stride,
    k2 = k1 + stride;
  const q1 = q + width,
    q2 = q1 + width;
  let a0 = f32x4.splat(0),
    a1 = a0,
    a2 = a0;
  let b0 = a0,
    b1 = a0,
    b2 = a0;
  let c0 = a0,
    c1 = a0,
    c2 = a0;
  for (let d: usize = 0; d < whole; d += 16) {
    const x = v128.load(q + d),
      y = v128.load(q1 + d),
      z = v128.load(q2 + d);
    let key = v128.load(k0 + d);
    a0 = madd(x, key, a0);
    b0 = madd(y, key, b0);
    c0 = madd(z, key, c0);
    key = v128.load(k1 + d);
    a1 = madd(x, key, a1);
    b1 = madd(y, key, b1);
    c1 = madd(z, key, c1);
    key = v128.load(k2 + d);
    a2 = madd(x, key, a2);
    b2 = madd(y, key, b2);
    c2 = madd(z, key, c2);
  }
  v128.store(sums, sumEach(a0, a1, a2, a2));
  v128.store(sums + apart, sumEach(b0, b1, b2, b2));
  v128.store(sums + 2 * apart, sumEach(c0, c1, c2, c2));
}

/** Sums across the lanes of each, in the order of `sum4`. */
function sumEach(a: v128, b: v128, c: v128, d: v128): v128 {
  const ab = f32x4.add(i32x4.shuffle(a, b, 0, 4, 1, 5), i32x4.shuffle(a, b, 2, 6, 3, 7));
  const cd = f32x4.add(i32x4.shuffle(c, d, 0, 4, 1, 5), i32x4.shuffle(c, d, 2, 6, 3, 7));
  return f32x4.add(i64x2.shuffle(ab, cd, 0, 2), i64x2.shuffle(ab, cd, 1, 3));
}

/** Adds what is left of a row behind whole vectors to `count` scores, where there is something. Scaling: softmaxRow. */
function finishScores(scores: usize, q: usize, k: usize, stride: usize, from: usize, to: usize, count: usize): void {
  if (from == to) return;
  for (const end = scores + (count << 2); scores < end; scores += 4) {
    let sum = load<f32>(scores);
    for (let d = from; d < to; d += 4) sum += load<f32>(q + d) * load<f32>(k + d);
    store<f32>(scores, sum);
    k += stride;
  }
}

/** Turns dot products into e^(scale·product - largest), and the number behind them into 1 / their sum. */
function softmaxRow(scores: usize, scale: f32, count: i32): void {
  const end = scores + ((<usize>count) << 2);
  const whole = scores + ((<usize>(count & ~3)) << 2);
  const scales = f32x4.splat(scale);
  let largest = load<f32>(scores) * scale;
  let most = f32x4.splat(largest);
  let at = scores;
  for (; at < whole; at += 16) {
    const score = f32x4.mul(v128.load(at), scales);
    v128.store(at, score);
    most = f32x4.pmax(most, score);
  }
  largest = max4(most);
  for (; at < end; at += 4) {
    const score = load<f32>(at) * scale;
    store<f32>(at, score);
    largest = max<f32>(largest, score);
  }
  const shift = f32x4.splat(largest);
  let lanes = f32x4.splat(0);
  for (at = scores; at < whole; at += 16) {
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
  store<f32>(end, <f32>1 / sum);
}

/** Σ weight · value from element `d` of a head on, times what stands behind the weights. */
function weighOne(
  out: usize,
  d: usize,
  values: usize,
  stride: usize,
  weights: usize,
  D: i32,
  count: i32,
  runs: usize,
  lastRun: usize,
): void {
  const width = (<usize>D) << 2;
  const scale = load<f32>(weights + ((<usize>count) << 2));
  const scales = f32x4.splat(scale);
  for (; d + 64 <= width; d += 64) {
    let a0 = f32x4.splat(0),
      a1 = a0,
      a2 = a0,
      a3 = a0;
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

/** The same for three neighbouring heads, 8 elements at a time: 6 sums, 3 weights and 1 of a value. */
function weighThree(
  out: usize,
  values: usize,
  stride: usize,
  weights: usize,
  apart: usize,
  D: i32,
  count: i32,
  runs: usize,
  lastRun: usize,
): void {
  const width = (<usize>D) << 2;
  const behind = weights + ((<usize>count) << 2);
  let d: usize = 0;
  for (; d + 32 <= width; d += 32) {
    let a0 = f32x4.splat(0),
      a1 = a0;
    let b0 = a0,
      b1 = a0;
    let c0 = a0,
      c1 = a0;
    let at = weights;
    for (let run = runs; run <= lastRun; run += 8) {
      let v = values + <usize>load<i32>(run) * stride + d;
      for (const end = at + ((<usize>load<i32>(run, 4)) << 2); at < end; at += 4) {
        const x = v128.load32_splat(at),
          y = v128.load32_splat(at + apart),
          z = v128.load32_splat(at + 2 * apart);
        let value = v128.load(v);
        a0 = madd(x, value, a0);
        b0 = madd(y, value, b0);
        c0 = madd(z, value, c0);
        value = v128.load(v, 16);
        a1 = madd(x, value, a1);
        b1 = madd(y, value, b1);
        c1 = madd(z, value, c1);
        v += stride;
      }
    }
    storeScaled(out + d, a0, a1, behind);
    storeScaled(out + width + d, b0, b1, behind + apart);
    storeScaled(out + 2 * width + d, c0, c1, behind + 2 * apart);
  }
  if (d == width) return;
  for (let h: usize = 0; h < 3; h++) {
    weighOne(out + h * width, d, values, stride, weights + h * apart, D, count, runs, lastRun);
  }
}

function storeScaled(to: usize, a: v128, b: v128, scale: usize): void {
  const s = v128.load32_splat(scale);
  v128.store(to, f32x4.mul(a, s));
  v128.store(to, f32x4.mul(b, s), 16);
}
