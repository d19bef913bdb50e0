import { describe, it } from "vitest";
import { expectGradients } from "../../../test/support/central-differences.ts";
import { expectTrainingAgreement, operate, trainingRowCounts } from "../../../test/support/training-agreement.ts";
import { add, relu } from "../elementwise/elementwise.ts";
import * as oracles from "../linear/linear.reference.ts";
import { linear, linearInput, linearWeight } from "../linear/linear.ts";

it("the gradients of a product are its slopes", () => {
  const [T, K, O] = [3, 4, 5];
  expectGradients({
    inputs: { x: T * K, w: O * K },
    outputs: T * O,
    forward: ({ x, w }, y) => oracles.linear(y, x, w, T, K, O),
    backward(gradients, dy, { x, w }) {
      oracles.linearInput(gradients.x, dy, w, undefined, T, K, O);
      oracles.linearWeight(gradients.w, dy, x, T, K, O);
    },
  });
});

describe.each([...trainingRowCounts, 300])("the three products of %i rows", (tokens) => {
  it.each([
    [1, 1],
    [5, 7],
    [64, 24],
    [37, 130], // more outputs than inputs
    [300, 13], // deeper than a panel
    [13, 515], // the input's gradient is deeper than two panels
    [9, 1100], // wider than a panel
    [1100, 9],
  ])("agree with their oracles from %i to %i", (inputs, outputs) =>
    expectTrainingAgreement({
      tokens,
      record({ input, output, gradient }) {
        const [x, dy, weight] = [input(inputs), input(outputs), input(inputs, outputs)];
        return [
          operate(linear, { y: output(outputs), x, weight }),
          operate(linear, { y: output(outputs), x, weight, plus: input(outputs) }),
          operate(linearInput, { dx: output(inputs), dy, weight }),
          operate(linearInput, { dx: output(inputs), dy, weight, plus: input(inputs) }),
          operate(linearWeight, { dWeight: gradient(outputs, inputs), dy, x }),
        ];
      },
    }),
  );
});

it("adds onto a sum that dies with it, in the same place", () =>
  expectTrainingAgreement({
    tokens: 37,
    record({ input, output, activation }) {
      const [sum, dx] = [activation(300, "tokens"), activation(300, "tokens")];
      return [
        operate(add, { y: sum, a: input(300), b: input(300) }),
        operate(linearInput, { dx, dy: input(515), weight: input(300, 515), plus: sum }),
        operate(relu, { y: output(300), x: dx }),
      ];
    },
  }));
