/**
 * Cross-entropy chunk by chunk: logits; losses, and the logits' gradients in their place; and what these give to x and to the
 * weight. So no more logits are in memory than a cache holds.
 */
import { maxRows, type Tensor } from "../../tensor/tensor.ts";
import { declareKernel, type Kernel } from "../kernel.ts";
import type { Lower, Lowering, Part } from "../lowering.ts";
import { multiply, productForms } from "../matmul/matmul.commands.ts";
import { fixedRows } from "../operation.ts";
import type { crossEntropy, crossEntropyBack } from "./cross-entropy.ts";

const crossEntropyRows: Kernel = declareKernel({
  name: "crossEntropyRows",
  file: "cross-entropy/cross-entropy",
  operands: { losses: "out", logits: "inout", targets: "ids", scale: "in?" },
  sizes: { V: undefined, start: undefined, chunk: undefined },
  settings: [],
  runtime: ["rows"],
  divide: "itself",
});

export const crossEntropyKernels: readonly Kernel[] = [crossEntropyRows];

/** Rows whose logits are in memory at once: 4 MiB of them, which a cache holds, or 128 rows, worth a walk over the weight. */
export function crossEntropyChunk(vocabSize: number): number {
  return Math.max(128, Math.floor((1 << 20) / vocabSize));
}

type Loss = { readonly losses: Tensor; readonly x: Tensor; readonly weight: Tensor; readonly targets: Tensor };
type Gradients = { readonly dx: Tensor; readonly dWeight?: Tensor | undefined; readonly scale: Tensor };

export const lowerCrossEntropy: Lower<typeof crossEntropy> = ({ operands }, lowering) =>
  lowerChunks(operands, undefined, lowering);

export const lowerCrossEntropyBack: Lower<typeof crossEntropyBack> = ({ operands }, lowering) =>
  lowerChunks(operands, operands, lowering);

function lowerChunks({ losses, x, weight, targets }: Loss, gradients: Gradients | undefined, lowering: Lowering): void {
  lowering.needsRows(weight);
  const [tokens, V] = [maxRows(x, lowering.limits), fixedRows(weight)];
  const chunk = Math.min(crossEntropyChunk(V), tokens);
  const logits = lowering.temporary("logits", chunk, V);
  for (let start = 0; start < tokens; start += chunk) {
    const rowsOf = (tensor: Tensor): Part => ({ tensor, offset: start * tensor.cols * 4 });
    const rows = { start, chunk, rows: x.rows };
    multiply(lowering, productForms.forward, { c: logits, a: rowsOf(x), b: weight }, rows);
    lowering.command(
      crossEntropyRows,
      { losses: rowsOf(losses), logits, targets: rowsOf(targets), scale: gradients?.scale },
      { sizes: { V, start, chunk } },
    );
    if (!gradients) continue;
    const { dx, dWeight } = gradients;
    multiply(lowering, productForms.input, { c: rowsOf(dx), a: logits, b: weight }, rows);
    if (!dWeight) continue;
    multiply(lowering, productForms.weight, { c: dWeight, plus: dWeight, a: logits, b: rowsOf(x) }, rows);
  }
}
