/** RMSNorm of each row: y = x / √(mean x² + eps) · gain (rmsnorm.reference.ts), and its gradients. */
import { declare, fixedCount, mustFit } from "../operation.ts";
import * as gradients from "./rmsnorm-gradient.reference.ts";
import * as forward from "./rmsnorm.reference.ts";

export const rmsnorm = declare({
  name: "rmsnorm",
  operands: { y: "out", x: "in", gain: "in" },
  settings: ["eps"],
  shape({ x, gain }) {
    mustFit("rmsnorm", "gain must be a row as wide as x", x, gain, x.cols === fixedCount(gain));
    return { y: x };
  },
  oracle: ({ y, x, gain }, { rows, of, settings }) => forward.rmsnorm(y, x, gain, rows, of.x.cols, settings.eps),
  gradient({ x, gain }, { eps }, dy, tape) {
    const { dx, scale } = tape.record(rmsnormBack, { dy, x, gain, plus: tape.known(x), eps });
    tape.replace(x, dx);
    const dGain = tape.gradientOf(gain);
    if (dGain) tape.record(gainBack, { dGain, dy, x, scale });
  },
  flops: ({ x }, rows) => 4 * rows * x.cols,
  kernel: { file: "rmsnorm/rmsnorm", sizes: { C: ({ y }) => y.cols }, divide: { share: ["rows"] } },
});

/** dx, and `scale` (T, 1) = 1 / √(mean x² + eps), for the gain's gradient. */
export const rmsnormBack = declare({
  name: "rmsnormBack",
  operands: { dx: "out", scale: "out", dy: "in", x: "in", gain: "in", plus: "in?" },
  settings: ["eps"],
  shape: ({ x }) => ({ dx: x, scale: { rows: x.rows, cols: 1 } }),
  oracle({ dx, scale, dy, x, gain, plus }, { rows, of, settings }) {
    gradients.rmsnormBack(dx, scale, dy, x, gain, plus, rows, of.x.cols, settings.eps);
  },
  flops: ({ x }, rows) => 10 * rows * x.cols,
  overlays: ["plus"],
  kernel: { file: "rmsnorm/rmsnorm-gradient", sizes: { C: ({ x }) => x.cols }, divide: { share: ["rows"] } },
});

/** dGain += Σ_t dy·x·scale. */
export const gainBack = declare({
  name: "gainBack",
  operands: { dGain: "inout", dy: "in", x: "in", scale: "in" },
  settings: [],
  shape: () => ({}),
  oracle({ dGain, dy, x, scale }, { of, rowsOf }) {
    gradients.gainBack(dGain, dy, x, scale, rowsOf(of.x), of.x.cols);
  },
  flops: ({ x }, rows) => 3 * rows * x.cols,
  kernel: {
    file: "rmsnorm/rmsnorm-gradient",
    rowsOf: "x",
    sizes: { C: ({ x }) => x.cols },
    runtime: ["rows"],
    divide: { share: ["C"], run: 8 },
  },
});
