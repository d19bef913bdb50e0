import { describe, it } from "vitest";
import { expectGradients } from "../../../test/support/central-differences.ts";
import { expectTrainingAgreement, operate, trainingRowCounts } from "../../../test/support/training-agreement.ts";
import * as gradientOracles from "./rmsnorm-gradient.reference.ts";
import * as oracles from "./rmsnorm.reference.ts";
import { gainBack, rmsnormBack } from "./rmsnorm.ts";

it("rmsnorm's gradients are its slopes", () => {
  const [T, C, eps] = [3, 7, 0.1]; // an eps that counts
  expectGradients({
    inputs: { x: T * C, gain: C },
    outputs: T * C,
    forward: ({ x, gain }, y) => oracles.rmsnorm(y, x, gain, T, C, eps),
    backward(gradients, dy, { x, gain }) {
      const scale = new Float64Array(T);
      gradientOracles.rmsnormBack(gradients.x, scale, dy, x, gain, undefined, T, C, eps);
      gradientOracles.gainBack(gradients.gain, dy, x, scale, T, C);
    },
  });
});

describe.each(trainingRowCounts)("rmsnorm's gradients of %i rows", (tokens) => {
  it.each([
    [1, 3],
    [1, 4],
    [1, 10],
    [1, 92],
    [1, 576],
    [3, 7],
    [9, 64],
  ])("agree with their oracles over each of %i heads of %i", async (heads, width) => {
    for (const adds of [false, true]) {
      await expectTrainingAgreement({
        tokens,
        record({ input, output, gradient }) {
          const row = heads * width;
          const [x, dy, gain, scale] = [input(row), input(row), input(width, 1), output(heads)];
          const plus = adds ? input(row) : undefined;
          return [
            operate(rmsnormBack, { dx: output(row), scale, dy, x, gain, plus, eps: 1e-5 }),
            operate(gainBack, { dGain: gradient(1, width), dy, x, scale }),
          ];
        },
      });
    }
  });
});
