import { describe, it } from "vitest";
import { expectAgreement, rowCounts } from "../../../test/support/kernel-agreement.ts";

describe.each(rowCounts)("rmsnorm of %i rows", (tokens) => {
  it.each([4, 7, 64, 92, 576])("agrees with its oracle at width %i", (width) =>
    expectAgreement({
      tokens,
      record: ({ r, input, gain }) => r.rmsnorm({ x: input(width), gain: gain(width), eps: 1e-5 }),
    }),
  );

  it.each([
    [1, 7],
    [3, 28],
    [9, 64],
  ])("agrees with its oracle over each of %i heads of %i", (heads, width) =>
    expectAgreement({
      tokens,
      record: ({ r, input, gain }) => r.rmsnorm({ x: input(heads * width), gain: gain(width), eps: 1e-5 }),
    }),
  );
});
