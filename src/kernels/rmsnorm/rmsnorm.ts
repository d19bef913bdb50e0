/** RMSNorm of each row, or of each head of a row: y = x / √(mean x² + eps) · gain (rmsnorm.reference.ts), and its gradients. */
import type { Tensor } from "../../tensor/tensor.ts";
import { declare, fixedCount, mustFit } from "../operation.ts";
import * as gradients from "./rmsnorm-gradient.reference.ts";
import * as forward from "./rmsnorm.reference.ts";

/** Parts of a row as wide as the gain, each normalized by itself: heads, or the row as a whole. */
const headsOf = (x: Pick<Tensor, "cols">, gain: Pick<Tensor, "cols">): number => x.cols / gain.cols;
type Operands = { readonly x: Pick<Tensor, "cols">; readonly gain: Pick<Tensor, "cols"> };
const sizes = { C: ({ gain }: Operands) => gain.cols, heads: ({ x, gain }: Operands) => headsOf(x, gain) };

export const rmsnorm = declare({
  name: "rmsnorm",
  operands: { y: "out", x: "in", gain: "in" },
  settings: ["eps"],
  shape({ x, gain }) {
    mustFit("rmsnorm", "gain must be a row as wide as x or one of its heads", x, gain, x.cols % fixedCount(gain) === 0);
    return { y: x };
  },
  oracle({ y, x, gain }, { rows, of, settings }) {
    forward.rmsnorm(y, x, gain, rows * headsOf(of.x, of.gain), of.gain.cols, settings.eps);
  },
  gradient({ x, gain }, { eps }, dy, tape) {
    const { dx, scale } = tape.record(rmsnormBack, { dy, x, gain, plus: tape.known(x), eps });
    tape.replace(x, dx);
    const dGain = tape.gradientOf(gain);
    if (dGain) tape.record(gainBack, { dGain, dy, x, scale });
  },
  flops: ({ x }, rows) => 4 * rows * x.cols,
  kernel: { file: "rmsnorm/rmsnorm", sizes, divide: { share: ["rows"] } },
});

/** dx, and `scale` (T, heads) = 1 / √(mean x² + eps), for the gain's gradient. */
export const rmsnormBack = declare({
  name: "rmsnormBack",
  operands: { dx: "out", scale: "out", dy: "in", x: "in", gain: "in", plus: "in?" },
  settings: ["eps"],
  shape: ({ x, gain }) => ({ dx: x, scale: { rows: x.rows, cols: headsOf(x, gain) } }),
  oracle({ dx, scale, dy, x, gain, plus }, { rows, of, settings }) {
    const parts = rows * headsOf(of.x, of.gain);
    gradients.rmsnormBack(dx, scale, dy, x, gain, plus, parts, of.gain.cols, settings.eps);
  },
  flops: ({ x }, rows) => 10 * rows * x.cols,
  overlays: ["plus"],
  kernel: { file: "rmsnorm/rmsnorm-gradient", sizes, divide: { share: ["rows"] } },
});

/** dGain += Σ_t dy·x·scale. */
export const gainBack = declare({
  name: "gainBack",
  operands: { dGain: "inout", dy: "in", x: "in", scale: "in" },
  settings: [],
  shape: () => ({}),
  oracle({ dGain, dy, x, scale }, { of, rowsOf }) {
    gradients.gainBack(dGain, dy, x, scale, rowsOf(of.x) * of.scale.cols, of.dGain.cols);
  },
  flops: ({ x }, rows) => 3 * rows * x.cols,
  kernel: {
    file: "rmsnorm/rmsnorm-gradient",
    rowsOf: "x",
    sizes: { C: ({ dGain }) => dGain.cols, heads: ({ scale }) => scale.cols },
    runtime: ["rows"],
    divide: { share: ["C"], run: 8 },
  },
});
