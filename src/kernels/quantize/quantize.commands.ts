/** The kernel that rounds activations to 16 bits for quantized weights (quantize.reference.ts). */
import { GROUP } from "../../tensor/dtype.ts";
import { maxRows, type Tensor } from "../../tensor/tensor.ts";
import { declareKernel, type Kernel } from "../kernel.ts";
import type { Lowering, Temporary } from "../lowering.ts";

const quantize: Kernel = declareKernel({
  name: "quantize",
  file: "quantize/quantize",
  operands: { y: "out", x: "in" },
  sizes: { K: ({ x }) => x.cols },
  settings: [],
  runtime: [],
  divide: { share: ["rows"] },
});

export const quantizeKernels: readonly Kernel[] = [quantize];

/** Bytes of a row: 16-bit values padded to whole groups, then a scale and a sum for each group. */
function quantizedRowBytes(cols: number): number {
  return Math.ceil(cols / GROUP) * (GROUP * 2 + 8);
}

/** x as quantized weights meet it, made once for all of them. */
export function quantizedOnce(x: Tensor, lowering: Lowering): Temporary {
  return lowering.once(x, () => {
    const bytes = maxRows(x, lowering.limits) * quantizedRowBytes(x.cols);
    const y = lowering.temporary(`${x.name} in 16 bits`, x.rows, x.cols, bytes);
    lowering.command(quantize, { y, x });
    return y;
  });
}
