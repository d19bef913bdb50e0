import { describe } from "vitest";
import { benchKernel } from "../../../test/support/kernel-bench.ts";

describe.each([1, 128])("rmsnorm of %i rows", (tokens) => {
  benchKernel(`rmsnorm ${tokens} × 576`, {
    tokens,
    record: ({ r, input, gain }) => r.rmsnorm({ x: input(576), gain: gain(576), eps: 1e-5 }),
  });
});
