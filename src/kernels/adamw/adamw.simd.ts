// Twins of adamw.reference.ts.
import {
  SETTING_BETA1,
  SETTING_BETA2,
  SETTING_CLIP,
  SETTING_CORRECTION,
  SETTING_EPS,
  SETTING_KEEP,
  SETTING_REST1,
  SETTING_REST2,
  SETTING_STEP_SIZE,
  SQUARES_CHUNK,
} from "../generated/numbers.simd";
import { sum4 } from "../math.simd";

/** Chunks `from`…`to` of Σ gradient². */
export function squares(sums: usize, gradient: usize, at: i32, count: i32, from: i32, to: i32): void {
  const out = sums + ((<usize>at) << 2);
  for (let chunk = from; chunk < to; chunk++) {
    const start = chunk * SQUARES_CHUNK,
      end = min(count, start + SQUARES_CHUNK);
    let cursor = gradient + ((<usize>start) << 2);
    const stop = gradient + ((<usize>end) << 2);
    let a = f32x4.splat(0),
      b = f32x4.splat(0);
    for (; cursor + 32 <= stop; cursor += 32) {
      const u = v128.load(cursor),
        v = v128.load(cursor, 16);
      a = f32x4.add(a, f32x4.mul(u, u));
      b = f32x4.add(b, f32x4.mul(v, v));
    }
    let sum = sum4(f32x4.add(a, b));
    for (; cursor < stop; cursor += 4) sum += load<f32>(cursor) * load<f32>(cursor);
    store<f32>(out + ((<usize>chunk) << 2), sum);
  }
}

/** One unit, so one thread: the sum is in f64, and the order is fixed. */
export function clip(out: usize, squares: usize, settings: usize, count: i32, from: i32, to: i32): void {
  if (from == to) return;
  let sum: f64 = 0;
  for (let i = 0; i < count; i++) sum += <f64>load<f32>(squares + ((<usize>i) << 2));
  const norm = <f32>sqrt<f64>(sum);
  store<f32>(out, norm);
  store<f32>(out, min<f32>(1, setting(settings, SETTING_CLIP) / (norm + <f32>1e-6)), 4);
}

/** One of the optimizer's settings. */
export function setting(settings: usize, index: i32): f32 {
  return load<f32>(settings + ((<usize>index) << 2));
}

/** Elements `from`…`to`. */
export function adamw(
  weight: usize,
  gradient: usize,
  mean: usize,
  square: usize,
  norm: usize, // [norm, factor]
  settings: usize,
  decays: f32, // 0: the weight does not
  from: i32,
  to: i32,
): void {
  const n = load<f32>(norm);
  if (n - n != 0) return; // not finite: the caller stops, and the weights must stay as they are
  const factor = v128.load32_splat(norm, 4);
  const keep = decays != 0 ? f32x4.splat(setting(settings, SETTING_KEEP)) : f32x4.splat(1);
  const beta1 = f32x4.splat(setting(settings, SETTING_BETA1)),
    beta2 = f32x4.splat(setting(settings, SETTING_BETA2)),
    eps = f32x4.splat(setting(settings, SETTING_EPS)),
    stepSize = f32x4.splat(setting(settings, SETTING_STEP_SIZE)),
    correction = f32x4.splat(setting(settings, SETTING_CORRECTION));
  const rest1 = f32x4.splat(setting(settings, SETTING_REST1)),
    rest2 = f32x4.splat(setting(settings, SETTING_REST2));
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

/** Elements `from`…`to` become zeros. */
export function clear(gradient: usize, from: i32, to: i32): void {
  memory.fill(gradient + ((<usize>from) << 2), 0, (<usize>(to - from)) << 2);
}
