// Twin of cross-entropy.reference.ts.
import { first, last, share } from "../share.simd";
import { exp1, exp4, largestOf, log1, sum4 } from "../math.simd";

export function crossEntropyRows(
  losses: usize, // (T)
  logits: usize, // (T, V)
  targets: usize, // (T) i32
  scale: usize, // one number; 0: the loss only
  V: i32,
  start: i32, // rows of the replay that these are: from here on …
  chunk: i32, // … so many, fewer at the end
  rows: i32, // of the replay
): void {
  share(max(0, min(chunk, rows - start)));
  const stride = (<usize>V) << 2;
  const whole = stride & ~15;
  for (let t = first; t < last; t++) {
    const row = logits + <usize>t * stride;
    const target = load<i32>(targets + ((<usize>t) << 2));
    if (target < 0) {
      store<f32>(losses + ((<usize>t) << 2), 0);
      if (scale) memory.fill(row, 0, stride);
      continue;
    }
    const largest = largestOf(row, V);
    const own = load<f32>(row + ((<usize>target) << 2)) - largest;

    // exp in place where the gradient is due; sums of four lanes, as wide as a row
    const m = f32x4.splat(largest);
    let sums = f32x4.splat(0);
    let v: usize = 0;
    for (; v < whole; v += 16) {
      const e = exp4(f32x4.sub(v128.load(row + v), m));
      sums = f32x4.add(sums, e);
      v128.store(row + v, e);
    }
    let sum = sum4(sums);
    for (; v < stride; v += 4) {
      const e = exp1(load<f32>(row + v) - largest);
      sum += e;
      store<f32>(row + v, e);
    }
    store<f32>(losses + ((<usize>t) << 2), log1(sum) - own);
    if (!scale) continue;
    const factor = load<f32>(scale) / sum;
    const f = f32x4.splat(factor);
    for (v = 0; v < whole; v += 16) v128.store(row + v, f32x4.mul(v128.load(row + v), f));
    for (; v < stride; v += 4) store<f32>(row + v, load<f32>(row + v) * factor);
    const hit = row + ((<usize>target) << 2);
    store<f32>(hit, load<f32>(hit) - load<f32>(scale));
  }
}
