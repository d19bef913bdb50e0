import { describe, it } from "vitest";
import { expectAgreement, rowCounts } from "../../../test/kernel-agreement.ts";

describe.each(rowCounts)("rmsnorm of %i rows", (tokens) => {
  it.each([4, 7, 64, 92, 576])("agrees with its oracle at width %i", (width) =>
    expectAgreement({ tokens, record: ({ r, input, weight }) => r.rmsnorm(input(width), weight(1, width), 1e-5) }),
  );
});
