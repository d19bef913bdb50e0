import { describe, expect, it } from "vitest";
import { expectAgreement, rowCounts } from "../../../test/support/kernel-agreement.ts";
import { expectTrainingAgreement, operate } from "../../../test/support/training-agreement.ts";
import * as oracles from "./embed.reference.ts";
import { embed } from "./embed.ts";

it("gives each token its row of the table", () => {
  const y = new Float32Array(8);
  oracles.embed(y, [2, 0, 2, 1], Float32Array.of(1, 2, 3, 4, 5, 6), 4, 2);
  expect([...y]).toEqual([5, 6, 1, 2, 5, 6, 3, 4]);
});

describe.each(rowCounts)("embed of %i tokens", (tokens) => {
  describe.each([8, 17, 23])("from a table of %i rows", (rows) => {
    it.each(["f32", "bf16", "q8", "q4"] as const)("gives the table's own values in %s", async (dtype) => {
      for (const width of [1, 6, 44, 257]) {
        const tolerance = 1e-7;
        await expectAgreement(
          { tokens, record: ({ r, ids, weight }) => r.embed({ tokens: ids(rows), table: weight(rows, width, dtype) }) },
          tolerance,
        );
      }
    });
  });

  it.each([1, 7, 44])("gives the values of a table that is trained, row by row, at width %i", (width) =>
    expectTrainingAgreement({
      tokens,
      record: ({ ids, input, output }) => [
        operate(embed, { y: output(width), tokens: ids((row) => (row * row) % 19), table: input(width, 19) }),
      ],
    }),
  );
});
