import { ids } from "../../program/recorder.ts";
import { benchKernel } from "../../../test/support/kernel-bench.ts";

benchKernel("log-probability 32 × 49152", {
  tokens: 32,
  record: ({ r, input, table }) =>
    r.logProbability({
      logits: input(49_152),
      targets: table(
        ids("targets", "outputs"),
        Array.from({ length: 32 }, (_, n) => n * 1000),
      ),
    }),
});
