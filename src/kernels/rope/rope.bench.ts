import { constant } from "../../program/recorder.ts";
import { benchKernel } from "../../../test/support/kernel-bench.ts";

benchKernel("rope 128 × 9 heads of 64", {
  tokens: 128,
  record({ r, input }) {
    const angles = constant(
      "angles",
      new Float32Array(128 * 64).map((_, i) => Math.cos(i)),
      64,
    );
    return r.rope({ x: input(576), angles, isInverse: 0 });
  },
});
