import { describe, it } from "vitest";
import { expectGradients } from "../../../test/support/central-differences.ts";
import { expectTrainingAgreement, operate, trainingRowCounts } from "../../../test/support/training-agreement.ts";
import * as gradientOracles from "./elementwise-gradient.reference.ts";
import * as oracles from "./elementwise.reference.ts";
import { reluBack, swigluBack } from "./elementwise.ts";

it("swiglu's gradients are its slopes", () =>
  expectGradients({
    inputs: { gate: 50, up: 50 },
    outputs: 50,
    forward: ({ gate, up }, y) => oracles.swiglu(y, gate, up, 50),
    backward: (gradients, dy, { gate, up }) =>
      gradientOracles.swigluBack(gradients.gate, gradients.up, dy, gate, up, 50),
  }));

it("relu's gradient is its slope", () =>
  expectGradients({
    inputs: { x: 50 },
    outputs: 50,
    forward: ({ x }, y) => oracles.relu(y, x, 50),
    backward: (gradients, dy, { x }) => gradientOracles.reluBack(gradients.x, dy, x, 50),
  }));

describe.each(trainingRowCounts)("with %i rows", (tokens) => {
  it.each([1, 7, 92])("the gradients agree with their oracles at width %i", (width) =>
    expectTrainingAgreement({
      tokens,
      record: ({ input, output }) => [
        operate(swigluBack, {
          dGate: output(width),
          dUp: output(width),
          dy: input(width),
          gate: input(width),
          up: input(width),
        }),
        operate(reluBack, { dx: output(width), dy: input(width), x: input(width) }),
      ],
    }),
  );
});

it("swiglu's gradients stay finite for gates far from 0", () =>
  expectTrainingAgreement({
    tokens: 1,
    record: ({ input, output }) => {
      const gate = input(9, 1, [-1000, -90, -40, -1, 0, 1, 40, 90, 1000]);
      return [operate(swigluBack, { dGate: output(9), dUp: output(9), dy: input(9), gate, up: input(9) })];
    },
  }));
