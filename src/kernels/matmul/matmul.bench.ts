import { benchKernel } from "../../../test/support/kernel-bench.ts";

benchKernel("product dy·w, 256 × 1536 → 576", {
  tokens: 256,
  record: ({ r, input, weight }) => r.linearInput({ dy: input(1536), weight: weight(1536, 576) }),
});
