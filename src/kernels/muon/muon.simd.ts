// Twins of muon.reference.ts, the products between them by matmul.simd.ts.
import { setting } from "../adamw/adamw.simd";
import {
  SETTING_KEEP,
  SETTING_LEARNING_RATE,
  SETTING_MOMENTUM,
  SETTING_REST_MOMENTUM,
  SQUARES_CHUNK,
} from "../generated/numbers.simd";
import { sum4 } from "../math.simd";

/**
 * Chunks `from`…`to`: the momentum, and the update before it is orthogonal, with its Σ update² a chunk. The gradient is cleared.
 */
export function momentum(
  update: usize,
  gradient: usize,
  mean: usize,
  squares: usize,
  settings: usize,
  norm: usize, // [norm, factor]
  count: i32,
  from: i32,
  to: i32,
): void {
  const n = load<f32>(norm);
  if (n - n != 0) return; // not finite: the momentum must stay as it is
  const factor = v128.load32_splat(norm, 4);
  const keep = f32x4.splat(setting(settings, SETTING_MOMENTUM)),
    rest = f32x4.splat(setting(settings, SETTING_REST_MOMENTUM));
  for (let chunk = from; chunk < to; chunk++) {
    let at = (<usize>(chunk * SQUARES_CHUNK)) << 2;
    const stop = (<usize>min(count, (chunk + 1) * SQUARES_CHUNK)) << 2;
    let sum = f32x4.splat(0);
    // Rows are padded to whole cache lines: the last vector may reach past the end into zeros.
    for (; at < stop; at += 16) {
      const g = f32x4.mul(f32x4.mul(v128.load(gradient + at), factor), rest);
      const m = f32x4.add(f32x4.mul(v128.load(mean + at), keep), g);
      const u = f32x4.add(f32x4.mul(m, keep), g);
      v128.store(mean + at, m);
      v128.store(update + at, u);
      v128.store(gradient + at, f32x4.splat(0));
      sum = f32x4.add(sum, f32x4.mul(u, u));
    }
    store<f32>(squares + ((<usize>chunk) << 2), sum4(sum));
  }
}

/** Elements `from`…`to` of x / max(√Σ squares, eps): every thread sums all chunks, in order. */
export function normalize(x: usize, squares: usize, count: i32, eps: f32, from: i32, to: i32): void {
  let sum: f64 = 0;
  const chunks = (count + SQUARES_CHUNK - 1) / SQUARES_CHUNK;
  for (let i = 0; i < chunks; i++) sum += <f64>load<f32>(squares + ((<usize>i) << 2));
  scale(x, x, <f32>(1 / max<f64>(sqrt<f64>(sum), <f64>eps)), from, to);
}

/** Elements `from`…`to`: out = x · factor. */
export function scale(out: usize, x: usize, factor: f32, from: i32, to: i32): void {
  const f = f32x4.splat(factor);
  const stop = (<usize>to) << 2;
  for (let at = (<usize>from) << 2; at < stop; at += 16) v128.store(out + at, f32x4.mul(v128.load(x + at), f));
}

/** Elements `from`…`to` of weight · keep − learning rate · factor · x. */
export function muonStep(weight: usize, x: usize, settings: usize, norm: usize, factor: f32, from: i32, to: i32): void {
  const n = load<f32>(norm);
  if (n - n != 0) return;
  const keep = f32x4.splat(setting(settings, SETTING_KEEP)),
    rate = f32x4.splat(setting(settings, SETTING_LEARNING_RATE) * factor);
  const stop = (<usize>to) << 2;
  for (let at = (<usize>from) << 2; at < stop; at += 16) {
    const w = f32x4.mul(v128.load(weight + at), keep);
    v128.store(weight + at, f32x4.sub(w, f32x4.mul(v128.load(x + at), rate)));
  }
}
