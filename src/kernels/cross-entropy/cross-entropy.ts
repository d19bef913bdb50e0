/** The loss of a language model, fused with the head, and its gradients (cross-entropy.reference.ts). */
import { declare, fixedRows, mustFit } from "../operation.ts";
import { linear as product, linearInput, linearWeight } from "../linear/linear.reference.ts";
import type { Floats } from "../floats.ts";
import { crossEntropyRows } from "./cross-entropy.reference.ts";

/** −log softmax(x·weightᵀ)[target] of each row (T, 1); 0 where the target is negative. */
export const crossEntropy = declare({
  name: "crossEntropy",
  operands: { losses: "out", x: "in", weight: "in", targets: "ids" },
  settings: [],
  shape({ x, weight }) {
    mustFit("crossEntropy", "inner sizes must match", x, weight, x.cols === weight.cols);
    return { losses: { rows: x.rows, cols: 1 } };
  },
  oracle({ losses, x, weight, targets }, { rows, of }) {
    const V = fixedRows(of.weight);
    crossEntropyRows(losses, logitsOf(x, weight, rows, of.x.cols, V), targets, undefined, rows, V);
  },
  flops: ({ x, weight }, rows) => 2 * rows * x.cols * fixedRows(weight),
});

/** The same, and the gradients of `scale` · Σ losses: `dx`, and `dWeight`, if any, added to. No second pass over the logits. */
export const crossEntropyBack = declare({
  name: "crossEntropyBack",
  operands: { losses: "out", dx: "out", dWeight: "inout?", x: "in", weight: "in", targets: "ids", scale: "in" },
  settings: [],
  shape: ({ x }) => ({ losses: { rows: x.rows, cols: 1 }, dx: x }),
  oracle({ losses, dx, dWeight, x, weight, targets, scale }, { rows, of }) {
    const [C, V] = [of.x.cols, fixedRows(of.weight)];
    const logits = logitsOf(x, weight, rows, C, V);
    crossEntropyRows(losses, logits, targets, scale[0], rows, V);
    linearInput(dx, logits, weight, undefined, rows, C, V);
    if (dWeight) linearWeight(dWeight, logits, x, rows, C, V);
  },
  flops: ({ x, weight }, rows) => 6 * rows * x.cols * fixedRows(weight),
});

/** All logits at once, in f64: what the chunks of the kernels should add up to. */
function logitsOf(x: Floats, weight: Floats, rows: number, C: number, V: number): Float64Array {
  const logits = new Float64Array(rows * V);
  product(logits, x, weight, rows, C, V);
  return logits;
}
