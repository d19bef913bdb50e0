/**
 * A program: a flat list of operations over tensors, recorded once by running the model function against a recorder,
 * then replayed by a backend any number of times (ARCHITECTURE, idea 2). Every operation makes new tensors, so that the
 * backward pass can be derived from the list (backward.ts) and the memory plan can see how long each tensor lives; only
 * caches, gradients, moments and trained weights are added to or overwritten in place. Programs that name the same weight,
 * cache, gradient or moment share it.
 */
import { invariant } from "../errors.ts";
import { type Operation, resultOf } from "../kernels/operation.ts";
import { type Limits, type RunNumbers, rowsIn } from "../tensor/tensor.ts";

export type Program = { readonly limits: Limits; readonly operations: readonly Operation[] };

/** Memory was planned for the limits: more would lie over something else. */
export function checkNumbers({ tokens, position, outputs }: RunNumbers, limits: Limits): void {
  invariant(tokens <= limits.tokens, `${tokens} tokens where ${limits.tokens} were planned`);
  invariant(outputs <= limits.outputs, `${outputs} outputs where ${limits.outputs} were planned`);
  invariant(tokens === 0 || position < limits.positions, `position ${position} of ${limits.positions}`);
}

/** Floating-point operations of one replay. */
export function flopsOf({ operations }: Program, numbers: RunNumbers): number {
  const all = { length: numbers.tokens, ...numbers };
  return operations.reduce((sum, operation) => {
    return sum + operation.op.flops(operation.operands, rowsIn(resultOf(operation), numbers), operation.settings, all);
  }, 0);
}
