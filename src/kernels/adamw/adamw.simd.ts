// Twins of adamw.reference.ts.
import { sum4 } from "../math.simd";

/** Numbers whose squares are summed as one; SQUARES_CHUNK in operation.ts. */
export const CHUNK: i32 = 16384;

export function countChunks(count: i32): i32 {
  return (count + CHUNK - 1) / CHUNK;
}

/** Chunks `from`…`to` of Σ gradient². */
export function squares(out: usize, gradient: usize, count: i32, from: i32, to: i32): void {
  for (let chunk = from; chunk < to; chunk++) {
    const start = chunk * CHUNK,
      end = min(count, start + CHUNK);
    let at = gradient + ((<usize>start) << 2);
    const stop = gradient + ((<usize>end) << 2);
    let a = f32x4.splat(0),
      b = f32x4.splat(0);
    for (; at + 32 <= stop; at += 32) {
      const u = v128.load(at),
        v = v128.load(at, 16);
      a = f32x4.add(a, f32x4.mul(u, u));
      b = f32x4.add(b, f32x4.mul(v, v));
    }
    let sum = sum4(f32x4.add(a, b));
    for (; at < stop; at += 4) sum += load<f32>(at) * load<f32>(at);
    store<f32>(out + ((<usize>chunk) << 2), sum);
  }
}

/** One thread: the sum is in f64, and the order is fixed. */
export function clip(out: usize, squares: usize, settings: usize, count: i32): void {
  let sum: f64 = 0;
  for (let i = 0; i < count; i++) sum += <f64>load<f32>(squares + ((<usize>i) << 2));
  const norm = <f32>sqrt<f64>(sum);
  store<f32>(out, norm);
  store<f32>(out, min<f32>(1, load<f32>(settings) / (norm + <f32>1e-6)), 4);
}

/** Elements `from`…`to`. Offsets of settings: optimizerSettings in operation.ts. */
export function adamw(
  weight: usize,
  gradient: usize,
  settings: usize,
  mean: usize,
  square: usize,
  norm: usize, // [norm, factor]
  decays: bool,
  from: i32,
  to: i32,
): void {
  const n = load<f32>(norm);
  if (n - n != 0) return; // not finite: the caller stops, and the weights must stay as they are
  const factor = v128.load32_splat(norm, 4);
  const keep = decays ? v128.load32_splat(settings, 4) : f32x4.splat(1);
  const beta1 = v128.load32_splat(settings, 8),
    beta2 = v128.load32_splat(settings, 12),
    eps = v128.load32_splat(settings, 16),
    stepSize = v128.load32_splat(settings, 20),
    correction = v128.load32_splat(settings, 24);
  const rest1 = v128.load32_splat(settings, 28),
    rest2 = v128.load32_splat(settings, 32);
  let at = (<usize>from) << 2;
  const stop = (<usize>to) << 2;
  // Rows are padded to whole cache lines: the last vector may reach past `to` into zeros.
  for (; at < stop; at += 16) {
    const g = f32x4.mul(v128.load(gradient + at), factor);
    const m = f32x4.add(f32x4.mul(v128.load(mean + at), beta1), f32x4.mul(g, rest1));
    const v = f32x4.add(f32x4.mul(v128.load(square + at), beta2), f32x4.mul(f32x4.mul(g, g), rest2));
    const step = f32x4.div(f32x4.mul(m, stepSize), f32x4.add(f32x4.div(f32x4.sqrt(v), correction), eps));
    v128.store(weight + at, f32x4.sub(f32x4.mul(v128.load(weight + at), keep), step));
    v128.store(mean + at, m);
    v128.store(square + at, v);
    v128.store(gradient + at, f32x4.splat(0));
  }
}
