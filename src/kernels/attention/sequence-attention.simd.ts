/*
 * Twins of attention.reference.ts within sequences, tiled: a block of queries meets one block of keys at a time, with running
 * maximum and sum forward (FlashAttention: Dao et al. 2022, arXiv:2205.14135), and with the saved lse backward. No T × T
 * matrix is kept. Products go through matmul. A thread owns whole heads, so that sums have one order.
 */
import { MATMUL_SCRATCH } from "../generated/numbers.simd";
import { exp1, exp4, largestOf, log1, madd, sum4 } from "../math.simd";
import { matmul } from "../matmul/matmul.simd";

/** Queries and keys of a tile. */
const BQ: i32 = 48;
const BK: i32 = 64;
/** Bytes from one row of a tile to the next. */
const TILE_ROW: usize = 256;
const TILE: usize = 12288;

/** Units `from`…`to` of (sequence, query head). */
export function sequenceAttention(
  y: usize, // (T, H·D)
  lse: usize, // (T, H)
  q: usize, // (T, H·D)
  keys: usize, // (T, G·D)
  values: usize, // (T, G·D)
  H: i32,
  G: i32,
  D: i32,
  rows: i32,
  length: i32,
  scratch: usize,
  from: i32,
  to: i32,
): void {
  const scores = scratch + <usize>MATMUL_SCRATCH;
  const largest = scores + TILE,
    sums = largest + 256;
  const HD = H * D,
    GD = G * D;
  const scale = <f32>1 / sqrt<f32>(<f32>D);
  for (let unit = from; unit < to; unit++) {
    const h = unit % H;
    const start = (unit / H) * length;
    const T = min(length, rows - start);
    const queries = q + ((<usize>(start * HD + h * D)) << 2),
      out = y + ((<usize>(start * HD + h * D)) << 2),
      group = (<usize>(start * GD + (h / (H / G)) * D)) << 2;
    for (let i = 0; i < T; i += BQ) {
      const height = min(BQ, T - i);
      const mix = out + ((<usize>(i * HD)) << 2);
      for (let r = 0; r < height; r++) {
        store<f32>(largest + ((<usize>r) << 2), -Infinity);
        store<f32>(sums + ((<usize>r) << 2), 0);
      }
      for (let j = 0; j < i + height; j += BK) {
        const width = min(BK, i + height - j);
        const at = group + ((<usize>(j * GD)) << 2);
        matmul(
          scores,
          0,
          BK,
          queries + ((<usize>(i * HD)) << 2),
          HD,
          1,
          keys + at,
          1,
          GD,
          height,
          D,
          0,
          width,
          scratch,
        );
        for (let r = 0; r < height; r++) {
          const seen = min(width, i + r - j + 1);
          softmaxRow(
            scores + <usize>r * TILE_ROW,
            seen,
            width,
            scale,
            largest + ((<usize>r) << 2),
            mix + ((<usize>(r * HD)) << 2),
            D,
          );
        }
        matmul(mix, j == 0 ? 0 : mix, HD, scores, BK, 1, values + at, GD, 1, height, width, 0, D, scratch);
      }
      for (let r = 0; r < height; r++) {
        const sum = load<f32>(sums + ((<usize>r) << 2));
        scaleRow(mix + ((<usize>(r * HD)) << 2), D, <f32>1 / sum);
        const logSum = log1(sum) + load<f32>(largest + ((<usize>r) << 2));
        store<f32>(lse + ((<usize>((start + i + r) * H + h)) << 2), logSum);
      }
    }
  }
}

/**
 * Scores of one query to exp(score·scale − largest), zeros for keys it must not see. Running maximum at `largest`, running
 * sum 256 bytes on; what was mixed under an older maximum is scaled to the new one.
 */
function softmaxRow(row: usize, seen: i32, width: i32, scale: f32, largest: usize, mix: usize, D: i32): void {
  const end = row + ((<usize>width) << 2);
  if (seen <= 0) {
    memory.fill(row, 0, (<usize>width) << 2);
    return;
  }
  const stop = row + ((<usize>seen) << 2);
  const vectors = row + ((<usize>(seen & ~3)) << 2);
  const before = load<f32>(largest);
  const m = max<f32>(largestOf(row, seen) * scale, before);

  const mm = f32x4.splat(m),
    ss = f32x4.splat(scale);
  let sum4s = f32x4.splat(0);
  let at = row;
  for (; at < vectors; at += 16) {
    const e = exp4(f32x4.sub(f32x4.mul(v128.load(at), ss), mm));
    sum4s = f32x4.add(sum4s, e);
    v128.store(at, e);
  }
  let sum = sum4(sum4s);
  for (; at < stop; at += 4) {
    const e = exp1(load<f32>(at) * scale - m);
    sum += e;
    store<f32>(at, e);
  }
  for (; at < end; at += 4) store<f32>(at, 0);

  if (m == before) {
    store<f32>(largest, load<f32>(largest, 256) + sum, 256);
    return;
  }
  if (before != -Infinity) {
    const factor = exp1(before - m);
    sum += load<f32>(largest, 256) * factor;
    scaleRow(mix, D, factor);
  }
  store<f32>(largest, sum, 256);
  store<f32>(largest, m);
}

function scaleRow(row: usize, D: i32, factor: f32): void {
  const end = row + ((<usize>D) << 2);
  const f = f32x4.splat(factor);
  for (; row + 16 <= end; row += 16) v128.store(row, f32x4.mul(v128.load(row), f));
  for (; row < end; row += 4) store<f32>(row, load<f32>(row) * factor);
}

/** Units `from`…`to` of (sequence, key/value head). */
export function attentionBack(
  dq: usize, // (T, H·D)
  dKeys: usize, // (T, G·D)
  dValues: usize, // (T, G·D)
  dy: usize, // (T, H·D)
  y: usize, // (T, H·D)
  lse: usize, // (T, H)
  q: usize, // (T, H·D)
  keys: usize, // (T, G·D)
  values: usize, // (T, G·D)
  H: i32,
  G: i32,
  D: i32,
  rows: i32,
  length: i32,
  scratch: usize,
  from: i32,
  to: i32,
): void {
  const weights = scratch + <usize>MATMUL_SCRATCH,
    slopes = weights + TILE;
  const HD = H * D,
    GD = G * D,
    perGroup = H / G;
  const scale = <f32>1 / sqrt<f32>(<f32>D);
  for (let unit = from; unit < to; unit++) {
    const g = unit % G;
    const start = (unit / G) * length;
    const T = min(length, rows - start);
    for (let j = 0; j < T; j += BK) {
      const width = min(BK, T - j);
      const key = (<usize>((start + j) * GD + g * D)) << 2;
      for (let r = 0; r < width; r++) {
        const own = key + ((<usize>(r * GD)) << 2);
        memory.fill(dKeys + own, 0, (<usize>D) << 2);
        memory.fill(dValues + own, 0, (<usize>D) << 2);
      }
      for (let h = g * perGroup; h < (g + 1) * perGroup; h++) {
        for (let i = j; i < T; i += BQ) {
          const height = min(BQ, T - i);
          const seen = min(width, i + height - j); // of these keys, by the block's last query
          const row = start + i;
          const query = (<usize>(row * HD + h * D)) << 2;
          matmul(weights, 0, BK, q + query, HD, 1, keys + key, 1, GD, height, D, 0, seen, scratch);
          matmul(slopes, 0, BK, dy + query, HD, 1, values + key, 1, GD, height, D, 0, seen, scratch);
          for (let r = 0; r < height; r++) {
            const at = query + ((<usize>(r * HD)) << 2);
            const logSum = load<f32>(lse + ((<usize>((row + r) * H + h)) << 2));
            const offset = <usize>r * TILE_ROW;
            slopesRow(
              weights + offset,
              slopes + offset,
              min(seen, i + r - j + 1),
              seen,
              scale,
              logSum,
              dot(dy + at, y + at, D),
            );
          }
          matmul(dValues + key, dValues + key, GD, weights, 1, BK, dy + query, HD, 1, seen, height, 0, D, scratch);
          matmul(dKeys + key, dKeys + key, GD, slopes, 1, BK, q + query, HD, 1, seen, height, 0, D, scratch);
          matmul(
            dq + query,
            j == 0 ? 0 : dq + query,
            HD,
            slopes,
            BK,
            1,
            keys + key,
            GD,
            1,
            height,
            seen,
            0,
            D,
            scratch,
          );
        }
      }
    }
  }
}

/** Scores to p = exp(score·scale − lse), and dy·v to ds = p·(dy·v − dy·y)·scale; zeros for keys that are not seen. */
function slopesRow(row: usize, slopes: usize, seen: i32, width: i32, scale: f32, lse: f32, mean: f32): void {
  const vectors = (<usize>(seen & ~3)) << 2,
    stop = (<usize>seen) << 2,
    bytes = (<usize>width) << 2;
  const ss = f32x4.splat(scale),
    ll = f32x4.splat(lse),
    dd = f32x4.splat(mean);
  let at: usize = 0;
  for (; at < vectors; at += 16) {
    const p = exp4(f32x4.sub(f32x4.mul(v128.load(row + at), ss), ll));
    v128.store(slopes + at, f32x4.mul(f32x4.mul(p, f32x4.sub(v128.load(slopes + at), dd)), ss));
    v128.store(row + at, p);
  }
  for (; at < stop; at += 4) {
    const p = exp1(load<f32>(row + at) * scale - lse);
    store<f32>(slopes + at, p * (load<f32>(slopes + at) - mean) * scale);
    store<f32>(row + at, p);
  }
  memory.fill(row + at, 0, bytes - at);
  memory.fill(slopes + at, 0, bytes - at);
}

function dot(a: usize, b: usize, D: i32): f32 {
  const end = (<usize>D) << 2;
  let lanes = f32x4.splat(0);
  let at: usize = 0;
  for (; at + 16 <= end; at += 16) lanes = madd(v128.load(a + at), v128.load(b + at), lanes);
  let sum = sum4(lanes);
  for (; at < end; at += 4) sum += load<f32>(a + at) * load<f32>(b + at);
  return sum;
}
