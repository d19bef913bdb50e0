import { ids, input as scalar } from "../../program/recorder.ts";
import { benchKernel } from "../../../test/support/kernel-bench.ts";

benchKernel("cross-entropy 64 × 192 → 4096", {
  tokens: 64,
  record: ({ r, input, weight, table }) =>
    r.crossEntropy({
      x: input(192),
      weight: weight(4096, 192),
      targets: table(
        ids("targets", "tokens"),
        Array.from({ length: 64 }, (_, t) => t * 60),
      ),
    }),
});
benchKernel("its gradients 64 × 192 → 4096", {
  tokens: 64,
  record: ({ r, input, weight, table }) =>
    r.crossEntropyBack({
      x: input(192),
      weight: weight(4096, 192),
      targets: table(
        ids("targets", "tokens"),
        Array.from({ length: 64 }, (_, t) => t * 60),
      ),
      scale: scalar("scale", 1, 1),
    }),
});
