import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { plainWasm, reference, twoThreads, wasm } from "../../../test/support/kernel-agreement.ts";
import {
  expectTrainingAgreement,
  operate,
  runTraining,
  type TrainingCase,
} from "../../../test/support/training-agreement.ts";
import { createOptimizer, settingsAt } from "../../training/optimizer.ts";
import { OPTIMIZER_SETTINGS } from "../adamw/adamw.ts";
import * as oracles from "./muon.reference.ts";
import { muon } from "./muon.ts";

type Golden = {
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly momentum: number;
  readonly cases: readonly {
    readonly shape: readonly [number, number];
    readonly weight: number[][];
    readonly gradients: number[][][];
    readonly after: number[][][];
  }[];
};
const golden = JSON.parse(readFileSync("test/fixtures/training/muon.json", "utf8")) as Golden;

it.each(golden.cases)("steps a matrix of $shape as torch.optim.Muon does", ({ shape: [O, K], ...values }) => {
  const { learningRate, weightDecay, momentum } = golden;
  const [weight, mean] = [Float64Array.from(values.weight.flat()), new Float64Array(O * K)];
  for (const [step, gradient] of values.gradients.entries()) {
    const settings = { keep: 1 - learningRate * weightDecay, momentum, learningRate };
    oracles.muon(weight, Float64Array.from(gradient.flat()), mean, O, K, 1, settings);
    for (const [i, expected] of values.after[step]!.flat().entries()) expect(weight[i]).toBeCloseTo(expected, 10);
  }
});

/** A step of one matrix with a gradient clipped to half. */
function step(rows: number, cols: number, norm = 3): TrainingCase {
  return {
    tokens: 1,
    tolerance: 1e-5,
    record({ input, gradient }) {
      const numbers = settingsAt(createOptimizer({ kind: "muon", weightDecay: 5 }), 3, 0.1);
      return [
        operate(muon, {
          weight: gradient(rows, cols),
          gradient: gradient(rows, cols),
          mean: gradient(rows, cols),
          norm: input(2, 1, [norm, 0.5]),
          settings: input(OPTIMIZER_SETTINGS, 1, numbers),
        }),
      ];
    },
  };
}

describe.each([
  [1, 1],
  [3, 7],
  [7, 3],
  [48, 130],
  [130, 48],
  [64, 64],
  [257, 66],
])("a matrix of %i × %i", (rows, cols) => {
  it("agrees with its oracle", () => expectTrainingAgreement(step(rows, cols)));

  it("is the same to the bit on two threads", async () => {
    expect(await runTraining(twoThreads, step(rows, cols))).toEqual(await runTraining(wasm, step(rows, cols)));
  });
});

it.each([
  ["reference", reference],
  ["relaxed", wasm],
  ["plain", plainWasm],
])("on the %s backend all stays as it is where the norm is not finite", async (_, backend) => {
  const before = [...(await runTraining(backend, step(3, 5, NaN))).values()];
  const untouched = [...(await runTraining(reference, step(3, 5, Infinity))).values()];
  const moved = [...(await runTraining(backend, step(3, 5))).values()];
  expect(before).toEqual(untouched);
  expect(before).not.toEqual(moved);
});
