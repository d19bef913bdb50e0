import { describe, it } from "vitest";
import { expectGradients } from "../../../test/support/central-differences.ts";
import { expectTrainingAgreement, operate, trainingRowCounts } from "../../../test/support/training-agreement.ts";
import * as gradientOracles from "./embed-gradient.reference.ts";
import * as oracles from "./embed.reference.ts";
import { embedBack } from "./embed.ts";

it("the embedding's gradient is its slope, summed where a token comes twice", () => {
  const [C, tokens] = [3, [4, 0, 4, 2]];
  expectGradients({
    inputs: { table: 5 * C },
    outputs: tokens.length * C,
    forward: ({ table }, y) => oracles.embed(y, tokens, table, tokens.length, C),
    backward: (gradients, dy) => gradientOracles.embedBack(gradients.table, tokens, dy, tokens.length, C),
  });
});

describe.each(trainingRowCounts)("the embedding's gradient of %i rows", (tokens) => {
  it.each([1, 7, 44])("agrees with its oracle at width %i", (width) =>
    expectTrainingAgreement({
      tokens,
      record: ({ ids, input, gradient }) => [
        operate(embedBack, { dTable: gradient(19, width), tokens: ids((row) => (row * row) % 19), dy: input(width) }),
      ],
    }),
  );
});
