import { describe, it } from "vitest";
import { expectAgreement, rowCounts } from "../../../test/kernel-agreement.ts";

describe.each(rowCounts)("attention of %i rows", (tokens) => {
  it.each([
    [4, 4, 16],
    [9, 3, 64],
    [3, 1, 28],
    [2, 1, 80],
    [2, 2, 6],
  ])("agrees with its oracle for %i heads, %i key/value heads of %i", (heads, kvHeads, headSize) =>
    expectAgreement({
      tokens,
      position: tokens === 1 ? 0 : 1,
      record({ r, input }) {
        const keys = r.store(input(kvHeads * headSize), r.cache("keys", kvHeads * headSize));
        const values = r.store(input(kvHeads * headSize), r.cache("values", kvHeads * headSize));
        return r.attention(input(heads * headSize), keys, values, headSize);
      },
    }),
  );
});
