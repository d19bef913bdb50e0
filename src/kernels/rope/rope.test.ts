import { describe, it } from "vitest";
import { expectAgreement, rowCounts } from "../../../test/kernel-agreement.ts";

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
});
