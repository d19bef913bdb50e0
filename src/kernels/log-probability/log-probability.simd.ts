/*
 * Twin of log-probability.reference.ts, rounded as torch.log_softmax does on a CPU with 512-bit vectors: f32 sums, each over
 * every sixteenth term, in which small terms are lost beside a large one. Log-probabilities come out up to 2e-5 larger,
 * always to that side: with other sums, a thousand tokens would be 0.01 away from what lm-evaluation-harness logs.
 */
import { exp1, exp4, largestOf, log1, sum4 } from "../math.simd";

export function logProbability(
  out: usize, // (N, 2)
  logits: usize, // (N, V)
  targets: usize, // (N) i32
  V: i32,
  lanes: usize, // scratch of this thread: 16 sums
  from: i32, // rows
  to: i32,
): void {
  for (let n = from; n < to; n++) {
    const row = logits + ((<usize>n * <usize>V) << 2);
    const target = row + ((<usize>load<i32>(targets + ((<usize>n) << 2))) << 2);
    const largest = largestOf(row, V);
    const logit = load<f32>(target);
    const at = out + ((<usize>n) << 3);
    store<f32>(at, logit - largest - log1(sumOfExp(row, V, largest, lanes)));
    store<f32>(at, logit == largest && !hasEarlier(row, target, largest) ? 1 : 0, 4);
  }
}

function sumOfExp(row: usize, V: i32, largest: f32, lanes: usize): f32 {
  const end = row + ((<usize>V) << 2);
  const shift = f32x4.splat(largest);
  let a = f32x4.splat(0),
    b = a,
    c = a,
    d = a;
  for (; row + 64 <= end; row += 64) {
    a = f32x4.add(a, exp4(f32x4.sub(v128.load(row), shift)));
    b = f32x4.add(b, exp4(f32x4.sub(v128.load(row, 16), shift)));
    c = f32x4.add(c, exp4(f32x4.sub(v128.load(row, 32), shift)));
    d = f32x4.add(d, exp4(f32x4.sub(v128.load(row, 48), shift)));
  }
  v128.store(lanes, a);
  v128.store(lanes, b, 16);
  v128.store(lanes, c, 32);
  v128.store(lanes, d, 48);
  for (let lane = lanes; row < end; row += 4, lane += 4) {
    store<f32>(lane, load<f32>(lane) + exp1(load<f32>(row) - largest));
  }
  const low = f32x4.add(v128.load(lanes), v128.load(lanes, 32));
  const high = f32x4.add(v128.load(lanes, 16), v128.load(lanes, 48));
  return sum4(f32x4.add(low, high));
}

function hasEarlier(row: usize, target: usize, value: f32): bool {
  for (; row < target; row += 4) if (load<f32>(row) == value) return true;
  return false;
}
