/**
 * A sum with a product becomes one operation: the product adds as it goes, which saves a rounding and a walk over memory. Programs
 * over a cache keep the two apart: over trained weights they give the bits that they give over frozen ones, whose
 * kernels don't add.
 */
import { add } from "../kernels/elementwise/elementwise.ts";
import { linear } from "../kernels/linear/linear.ts";
import { isA, type Operation, readsOf } from "../kernels/operation.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Program } from "./program.ts";

/** Fuses `add(a, b)` with the product b right before it, where nothing else reads b. */
export function fuseSums({ operations }: Program): readonly Operation[] {
  const read = operations.flatMap(readsOf);
  if (read.some(({ kind }) => kind === "cache")) return operations;
  const reads = new Map<Tensor, number>();
  for (const tensor of read) reads.set(tensor, (reads.get(tensor) ?? 0) + 1);
  const fused: Operation[] = [];
  for (const operation of operations) {
    const product = fused.at(-1);
    if (isA(operation, add) && product && isA(product, linear) && !product.operands.plus) {
      const { y, a, b } = operation.operands;
      if (b === product.operands.y && reads.get(b) === 1 && a !== b) {
        fused[fused.length - 1] = { ...product, operands: { ...product.operands, y, plus: a } };
        continue;
      }
    }
    fused.push(operation);
  }
  return fused;
}
