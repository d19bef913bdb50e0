import { describe, it } from "vitest";
import { expectGradients } from "../../../test/support/central-differences.ts";
import { expectTrainingAgreement, trainingRowCounts } from "../../../test/support/training-agreement.ts";
import { embedBack } from "./embed-gradient.reference.ts";

it("the embedding's gradient is its slope, summed where a token comes twice", () => {
  const [C, tokens] = [3, [4, 0, 4, 2]];
  expectGradients({
    inputs: { table: 5 * C },
    outputs: tokens.length * C,
    forward: ({ table }, y) => tokens.forEach((token, t) => y.set(table.subarray(token * C, (token + 1) * C), t * C)),
    backward: (gradients, dy) => embedBack(gradients.table, tokens, dy, tokens.length, C),
  });
});

describe.each(trainingRowCounts)("the embedding's gradient of %i rows", (tokens) => {
  it.each([1, 7, 44])("agrees with its oracle at width %i", (width) =>
    expectTrainingAgreement({
      tokens,
      record: ({ ids, input, gradient }) => [
        { op: "embedBack", out: gradient(19, width), tokens: ids((row) => (row * row) % 19), dy: input(width) },
      ],
    }),
  );
});
