import { describe } from "vitest";
import { benchKernel } from "../../../test/support/kernel-bench.ts";

/** One row is bound by memory, many by arithmetic. 576 × 1536 is MobileLLM-125M's feed-forward. */
describe.each([1, 4, 128])("linear of %i rows", (tokens) => {
  for (const dtype of ["f32", "bf16", "q8", "q4"] as const) {
    benchKernel(`linear ${tokens} × 576 → 1536, ${dtype}`, {
      tokens,
      record: ({ r, input, weight }) => r.linear({ x: input(576), weight: weight(1536, 576, dtype) }),
    });
  }
  benchKernel(`linear ${tokens} × 576 → 1536 and back, trained`, {
    tokens,
    record({ r, input, weight }) {
      const trained = weight(1536, 576);
      const y = r.linear({ x: input(576), weight: trained });
      r.linearInput({ dy: input(1536), weight: trained }); // has the weight laid row by row
      return y;
    },
  });
});
