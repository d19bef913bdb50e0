import { benchKernel } from "../../../test/support/kernel-bench.ts";

for (const dtype of ["f32", "q8", "q4"] as const) {
  benchKernel(`embed 128 of 4096 × 576, ${dtype}`, {
    tokens: 128,
    record: ({ r, ids, weight }) => r.embed({ tokens: ids(4096), table: weight(4096, 576, dtype) }),
  });
}
