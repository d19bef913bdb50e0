import { describe, it } from "vitest";
import { expectAgreement, rowCounts } from "../../../test/support/kernel-agreement.ts";

describe.each(rowCounts)("with %i rows", (tokens) => {
  it("swiglu agrees with its oracle", () =>
    expectAgreement({ tokens, record: ({ r, input }) => r.swiglu({ gate: input(93), up: input(93) }) }));

  it("relu agrees with its oracle", () =>
    expectAgreement({ tokens, record: ({ r, input }) => r.relu({ x: input(93) }) }));

  it("add agrees with its oracle", () =>
    expectAgreement({ tokens, record: ({ r, input }) => r.add({ a: input(93), b: input(93) }) }));
});
