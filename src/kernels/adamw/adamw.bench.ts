import { benchKernel } from "../../../test/support/kernel-bench.ts";

benchKernel("adamw of 1536 × 576", {
  tokens: 2,
  record({ r, weight, filled }) {
    const [parameter, gradient, mean] = [weight(1536, 576), weight(1536, 576), weight(1536, 576)];
    const square = weight(1536, 576, "f32", new Float32Array(1536 * 576).fill(0.5));
    // norm and clipping factor; then settings
    const norm = filled(2, Float32Array.of(1, 1, 1, 1));
    const settings = filled(
      12,
      Float32Array.from({ length: 24 }, () => 0.5),
    );
    r.adamw({ weight: parameter, gradient, mean, square, norm, settings, decays: 1 });
    return r.linear({ x: filled(576, new Float32Array(2 * 576).fill(1)), weight: parameter });
  },
});
