import { cache, ids } from "../../program/recorder.ts";
import { benchKernel } from "../../../test/support/kernel-bench.ts";

benchKernel("store 128 × 192", {
  tokens: 128,
  record: ({ r, input }) => r.store({ cache: cache("keys", 128, 192), x: input(192) }),
});
benchKernel("pick 90 of 128 × 576", {
  tokens: 128,
  outputs: 90,
  record: ({ r, input, table }) =>
    r.pick({
      x: input(576),
      rows: table(
        ids("rows", "outputs"),
        Array.from({ length: 90 }, (_, n) => 127 - n),
      ),
    }),
});
