/** Products with a weight (linear.reference.ts), and their gradients. */
import { declare, fixedRows, mustFit } from "../operation.ts";
import { quantized } from "../quantize/quantize.reference.ts";
import * as oracles from "./linear.reference.ts";

/** plus + x (T, K) · weightᵀ, weight (O, K) → (T, O). Activations that meet quantized weights are rounded to 16 bits. */
export const linear = declare({
  name: "linear",
  operands: { y: "out", x: "in", weight: "in", plus: "in?" },
  settings: [],
  shape({ x, weight }) {
    mustFit("linear", "inner sizes must match", x, weight, x.cols === weight.cols);
    return { y: { rows: x.rows, cols: fixedRows(weight) } };
  },
  oracle({ y, x, weight, plus }, { rows, of }) {
    const isQuantized = of.weight.dtype === "q8" || of.weight.dtype === "q4";
    const operand = isQuantized ? quantized(x, rows, of.x.cols) : x;
    oracles.linear(y, operand, weight, rows, of.x.cols, of.y.cols, plus);
  },
  gradient({ x, weight, plus }, _, dy, tape) {
    const dWeight = tape.gradientOf(weight);
    if (dWeight) tape.record(linearWeight, { dWeight, dy, x });
    tape.replace(x, tape.record(linearInput, { dy, weight, plus: tape.known(x) }).dx);
    if (plus) tape.add(plus, dy);
  },
  flops: ({ x, y }, rows) => 2 * rows * x.cols * y.cols,
  overlays: ["plus"],
});

/** plus + dy·weight. */
export const linearInput = declare({
  name: "linearInput",
  operands: { dx: "out", dy: "in", weight: "in", plus: "in?" },
  settings: [],
  shape: ({ dy, weight }) => ({ dx: { rows: dy.rows, cols: weight.cols } }),
  oracle: ({ dx, dy, weight, plus }, { rows, of }) =>
    oracles.linearInput(dx, dy, weight, plus, rows, of.dx.cols, of.dy.cols),
  flops: ({ dx, dy }, rows) => 2 * rows * dx.cols * dy.cols,
  overlays: ["plus"],
});

/** dWeight += dyᵀ·x. */
export const linearWeight = declare({
  name: "linearWeight",
  operands: { dWeight: "inout", dy: "in", x: "in" },
  settings: [],
  shape: () => ({}),
  oracle: ({ dWeight, dy, x }, { of, rowsOf }) =>
    oracles.linearWeight(dWeight, dy, x, rowsOf(of.x), of.x.cols, of.dy.cols),
  flops: ({ dy, x }, rows) => 2 * rows * dy.cols * x.cols,
});
