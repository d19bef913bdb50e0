import { benchKernel } from "../../../test/support/kernel-bench.ts";

benchKernel("swiglu 128 × 1536", {
  tokens: 128,
  record: ({ r, input }) => r.swiglu({ gate: input(1536), up: input(1536) }),
});
benchKernel("relu 128 × 1536", { tokens: 128, record: ({ r, input }) => r.relu({ x: input(1536) }) });
benchKernel("add 128 × 576", { tokens: 128, record: ({ r, input }) => r.add({ a: input(576), b: input(576) }) });
benchKernel("gradient of swiglu 128 × 1536", {
  tokens: 128,
  record: ({ r, input }) => r.swigluBack({ dy: input(1536), gate: input(1536), up: input(1536) }),
});
