import { describe, expect, it } from "vitest";
import { plainWasm, reference, wasm } from "../../../test/support/kernel-agreement.ts";
import {
  expectTrainingAgreement,
  operate,
  runTraining,
  type TrainingCase,
} from "../../../test/support/training-agreement.ts";
import { createOptimizer, settingsAt } from "../../training/optimizer.ts";
import * as oracles from "./adamw.reference.ts";
import { adamw, clear, clip, countChunks, OPTIMIZER_SETTINGS, squares, SQUARES_CHUNK } from "./adamw.ts";

it("a first step moves each weight by the learning rate against its gradient's sign, after decay", () => {
  const [weight, gradient] = [Float64Array.of(1, -2, 3), Float64Array.of(0.5, -30, 1e-3)];
  const [mean, square] = [new Float64Array(3), new Float64Array(3)];
  const rates = { beta1: 0.9, beta2: 0.95, eps: 0, stepSize: 0.01 / (1 - 0.9), correction: Math.sqrt(1 - 0.95) };
  oracles.adamw(weight, gradient, mean, square, 1, { keep: 0.5, ...rates });
  expect([...weight].map((value) => value.toFixed(9))).toEqual(["0.490000000", "-0.990000000", "1.490000000"]);
  expect([...gradient]).toEqual([0, 0, 0]);
});

it("sums squares chunk by chunk, the last one shorter, and leaves what other gradients have put there", () => {
  const sums = Float64Array.of(-1, 0, 0, 0, -2);
  oracles.squares(sums, Float64Array.of(1, 2, 3, 4, 5, 6, 7), 1, 3);
  expect([...sums]).toEqual([-1, 14, 77, 49, -2]);
});

it("clips by the global norm, and only what is above the limit", () => {
  const out = new Float64Array(2);
  oracles.clip(out, Float64Array.of(9, 16), 1);
  expect(out[0]).toBe(5);
  expect(out[1]! * 5).toBeCloseTo(1, 6);
  oracles.clip(out, Float64Array.of(9, 16), 6);
  expect(out[1]).toBe(1);
});

/** An update of two parameters, of which the second doesn't decay. */
function update(sizes: readonly [number, number], limit: number | null): TrainingCase {
  return {
    tokens: 1,
    tolerance: 1e-6,
    record({ input, gradient }) {
      const numbers = settingsAt(createOptimizer({ clip: limit, weightDecay: 5 }), 3, 0.01);
      const settings = input(OPTIMIZER_SETTINGS, 1, numbers);
      const firstChunks = countChunks(sizes[0]);
      const sums = gradient(1, firstChunks + countChunks(sizes[1]));
      const norm = gradient(1, 2);
      const parameters = sizes.map((size) => {
        const variances = Float32Array.from({ length: size }, (_, i) => 0.1 + Math.cos(i) ** 2);
        const [weight, mean, square] = [gradient(1, size), gradient(1, size), gradient(1, size, variances)];
        return { weight, gradient: gradient(1, size), mean, square };
      });
      return [
        ...parameters.map((of, i) => operate(squares, { sums, gradient: of.gradient, at: i * firstChunks })),
        operate(clip, { norm, squares: sums, settings }),
        ...parameters.map((of, i) => operate(adamw, { ...of, norm, settings, decays: i === 0 ? 1 : 0 })),
        operate(clear, { gradient: gradient(1, 130) }),
      ];
    },
  };
}

describe.each([
  [1, 7],
  [SQUARES_CHUNK, SQUARES_CHUNK + 1],
  [3 * SQUARES_CHUNK - 1, 130],
] as const)("an update of %i and %i weights", (...sizes) => {
  it.each([1e-3, 1e6, null])("agrees with its oracle, clipped at %s", (limit) =>
    expectTrainingAgreement(update(sizes, limit)),
  );
});

describe.each([
  ["reference", reference],
  ["relaxed", wasm],
  ["plain", plainWasm],
])("on the %s backend", (_, backend) => {
  it.each([NaN, Infinity, -Infinity])("an update leaves all as it is where a gradient holds %f", async (bad) => {
    const before = { weight: [1, 2, 3], gradient: [0.5, bad, 0.25], mean: [4, 5, 6], square: [7, 8, 9] };
    const results = await runTraining(backend, {
      tokens: 1,
      record({ input, gradient }) {
        const settings = input(OPTIMIZER_SETTINGS, 1, settingsAt(createOptimizer(), 0, 0.01));
        const [sums, norm] = [gradient(1, 1, [0]), gradient(1, 2, [0, 0])];
        const [weight, slopes] = [gradient(1, 3, before.weight), gradient(1, 3, before.gradient)];
        const [mean, square] = [gradient(1, 3, before.mean), gradient(1, 3, before.square)];
        return [
          operate(squares, { sums, gradient: slopes, at: 0 }),
          operate(clip, { norm, squares: sums, settings }),
          operate(adamw, { weight, gradient: slopes, mean, square, norm, settings, decays: 1 }),
        ];
      },
    });
    const after = Array.from(results.values(), (values) => [...values]);
    expect(after).toEqual(expect.arrayContaining(Object.values(before)));
  });
});
