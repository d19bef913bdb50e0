import { describe, it } from "vitest";
import { expectAgreement, rowCounts } from "../../../test/kernel-agreement.ts";

describe.each(rowCounts)("embed of %i tokens", (tokens) => {
  it.each(["f32", "bf16", "q8", "q4"] as const)("gives the table's own values in %s", (dtype) =>
    expectAgreement({ tokens, record: ({ r, ids, weight }) => r.embed(ids(19), weight(19, 44, dtype)) }, 1e-7),
  );
});
