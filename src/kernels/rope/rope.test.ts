import { describe, it } from "vitest";
import { expectAgreement, rowCounts } from "../../../test/support/kernel-agreement.ts";

describe.each(rowCounts)("rope of %i rows", (tokens) => {
  it.each([4, 6, 28, 64, 80])("agrees with its oracle at head size %i", (headSize) =>
    expectAgreement({
      tokens,
      record({ r, input }) {
        const angles = Float32Array.from({ length: r.limits.positions * headSize }, (_, i) => Math.sin(i));
        return r.rope(input(3 * headSize), r.constant("angles", angles, headSize));
      },
    }),
  );

  it("turns a row by its place's position", () =>
    expectAgreement({
      tokens,
      record({ r, input, table }) {
        const angles = Float32Array.from({ length: r.limits.positions * 6 }, (_, i) => Math.sin(i));
        const places = Array.from({ length: tokens }, (_, row) => [0, -1, tokens - 1 - row]).flat();
        return r.rope(input(12), r.constant("angles", angles, 6), table(r.places(), places));
      },
    }));
});
