import { describe, it } from "vitest";
import { expectGradients } from "../../../test/support/central-differences.ts";
import { expectTrainingAgreement, operate, trainingRowCounts } from "../../../test/support/training-agreement.ts";
import * as oracles from "./attention.reference.ts";
import { attention, attentionBack } from "./attention.ts";

it.each([
  ["one sequence", 5, 5, 2, 2],
  ["several sequences, the last one shorter", 8, 3, 2, 2],
  ["heads in groups", 6, 4, 6, 2],
])("attention's gradients are its slopes: %s", (_, rows, length, heads, kvHeads) => {
  const shape = { rows, heads, kvHeads, headSize: 4, seenBy: oracles.seenInSequence(length) };
  const [wide, narrow] = [rows * heads * 4, rows * kvHeads * 4];
  expectGradients({
    inputs: { q: wide, keys: narrow, values: narrow },
    outputs: wide,
    forward: ({ q, keys, values }, y) => oracles.attention(y, undefined, q, keys, values, shape),
    backward(gradients, dy, { q, keys, values }) {
      const [y, lse] = [new Float64Array(wide), new Float64Array(rows * heads)];
      oracles.attention(y, lse, q, keys, values, shape);
      oracles.attentionBack(gradients.q, gradients.keys, gradients.values, dy, y, lse, q, keys, values, shape);
    },
  });
});

describe.each(trainingRowCounts)("attention and its gradients of %i rows", (tokens) => {
  it.each([
    [2, 2, 6],
    [3, 1, 28],
    [3, 3, 64],
    [2, 1, 80],
  ])("agree with their oracles for %i heads, %i key/value heads of %i", async (heads, kvHeads, headSize) => {
    for (const length of new Set([tokens, Math.ceil(tokens / 2.3)])) {
      await expectTrainingAgreement({
        tokens,
        length,
        tolerance: 3e-5, // an outlier's large score, in f32, is an exponent
        record({ input, output }) {
          const [wide, narrow] = [heads * headSize, kvHeads * headSize];
          const [q, keys, values] = [input(wide), input(narrow), input(narrow)];
          const [y, lse] = [output(wide), output(heads)];
          const gradients = { dq: output(wide), dKeys: output(narrow), dValues: output(narrow) };
          return [
            operate(attention, { y, lse, q, keys, values, headSize }),
            operate(attentionBack, { ...gradients, dy: input(wide), y, lse, q, keys, values, headSize }),
          ];
        },
      });
    }
  });
});

it("scores far apart leave no NaN", () =>
  expectTrainingAgreement({
    tokens: 3,
    tolerance: 1e-4,
    record({ input, output }) {
      const [q, keys, values] = [input(2, 3, [90, 90, -90, 0, 0, 90]), input(2, 3, [50, 0, -50, 50, 0, -50]), input(2)];
      const [y, lse] = [output(2), output(1)];
      const gradients = { dq: output(2), dKeys: output(2), dValues: output(2) };
      return [
        operate(attention, { y, lse, q, keys, values, headSize: 2 }),
        operate(attentionBack, { ...gradients, dy: input(2), y, lse, q, keys, values, headSize: 2 }),
      ];
    },
  }));
