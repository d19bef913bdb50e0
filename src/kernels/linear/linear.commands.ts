/**
 * Products with a weight on the WebAssembly backend, by how the weight lies: in blocks of 8 rows, where activations meet 8- and
 * 4-bit weights in 16 bits; or row by row in f32, as training has it, by way of panels.
 */
import { maxRows, type Tensor } from "../../tensor/tensor.ts";
import { add } from "../elementwise/elementwise.ts";
import { declareKernel, forms, type Kernel } from "../kernel.ts";
import type { Lower, Lowering } from "../lowering.ts";
import { multiply, productForms } from "../matmul/matmul.commands.ts";
import { kernelOf } from "../operation.ts";
import { quantizedOnce } from "../quantize/quantize.commands.ts";
import type { linear, linearInput, linearWeight } from "./linear.ts";

const linearBlocks: Kernel = declareKernel({
  name: "linearBlocks",
  file: "linear/linear-blocks",
  operands: { y: "out", x: "in", weight: "in" },
  sizes: { K: ({ weight }) => weight.cols, O: ({ y }) => y.cols, form: ({ weight }) => weight.form },
  settings: [],
  runtime: ["rows", "scratch", "taken"],
  divide: "itself",
});

export const linearKernels: readonly Kernel[] = [linearBlocks];

export const lowerLinear: Lower<typeof linear> = ({ operands: { y, x, weight, plus } }, lowering) => {
  const form = lowering.formOf(weight);
  if (form === forms.rows) {
    return multiply(lowering, productForms.forward, { c: y, plus, a: x, b: weight });
  }
  const isQuantized = form === forms.q8 || form === forms.q4;
  const operand = isQuantized ? quantizedOnce(x, lowering) : x;
  const scratchBytes = isQuantized ? QUANTIZED_SCRATCH : packedBytes(x, lowering);
  const result = plus ? lowering.temporary(`product of ${y.name}`, y.rows, y.cols) : y;
  lowering.command(linearBlocks, { y: result, x: operand, weight }, { scratchBytes });
  if (plus) lowering.command(kernelOf(add)!, { y, a: plus, b: result });
};

export const lowerLinearInput: Lower<typeof linearInput> = ({ operands: { dx, dy, weight, plus } }, lowering) => {
  lowering.needsRows(weight);
  multiply(lowering, productForms.input, { c: dx, plus, a: dy, b: weight });
};

export const lowerLinearWeight: Lower<typeof linearWeight> = ({ operands: { dWeight, dy, x } }, lowering) =>
  multiply(lowering, productForms.weight, { c: dWeight, plus: dWeight, a: dy, b: x });

/** A tile of 4 × 8 outputs, and a group of 8 rows in 16 bits. */
const QUANTIZED_SCRATCH = 640;

/** linear-float.simd.ts packs the rows of x by sixes, behind four tiles. */
function packedBytes(x: Tensor, { limits }: Lowering): number {
  return 768 + Math.ceil(maxRows(x, limits) / 6) * 6 * x.cols * 4;
}
