/**
 * Where what a program computes lies, worked out before a byte is taken. Inputs and outputs have places of their own; activations
 * share: a place is free again after the last step that touches its tensor.
 */
import { isLasting, type Tensor } from "../tensor/tensor.ts";

/** Places start at multiples of this: a cache line, so that two threads never write to the same one. */
const ALIGNMENT = 64;

/** A step of a program as memory sees it; `overlays`: operands in whose place its first result may be made. */
export type Step = {
  readonly reads: readonly Tensor[];
  readonly writes: readonly Tensor[];
  readonly overlays: readonly Tensor[];
};

export type MemoryPlan = {
  /** Byte offset of each input, output and activation. */
  readonly offset: ReadonlyMap<Tensor, number>;
  /** Bytes of all together. */
  readonly bytes: number;
};

export function planMemory(steps: readonly Step[], bytesOf: (tensor: Tensor) => number): MemoryPlan {
  const offset = new Map<Tensor, number>();
  const sizeOf = (tensor: Tensor): number => alignUp(bytesOf(tensor));
  let end = 0;
  const lastUse = new Map<Tensor, number>();
  for (const [index, { reads, writes }] of steps.entries()) {
    for (const tensor of [...reads, ...writes]) {
      lastUse.set(tensor, index); // a result that nobody reads still needs its place while it is made
      if (isLasting(tensor) || tensor.kind === "activation" || offset.has(tensor)) continue;
      offset.set(tensor, end);
      end += sizeOf(tensor);
    }
  }

  const base = end;
  const taken: { start: number; size: number; until: number }[] = []; // by start
  function place(tensor: Tensor): void {
    const need = sizeOf(tensor);
    let start = base;
    let at = 0; // first gap that is wide enough
    while (at < taken.length && taken[at]!.start - start < need) {
      start = taken[at]!.start + taken[at]!.size;
      at++;
    }
    taken.splice(at, 0, { start, size: need, until: lastUse.get(tensor)! });
    offset.set(tensor, start);
    end = Math.max(end, start + need);
  }
  for (const [index, { reads, writes, overlays }] of steps.entries()) {
    for (let i = taken.length - 1; i >= 0; i--) if (taken[i]!.until < index) taken.splice(i, 1);
    for (const [i, tensor] of writes.entries()) {
      if (tensor.kind !== "activation" || offset.has(tensor)) continue;
      const dying = overlays.find(
        (operand) =>
          operand.kind === "activation" &&
          lastUse.get(operand) === index &&
          sizeOf(operand) === sizeOf(tensor) &&
          reads.filter((read) => read === operand).length === 1, // in no other role
      );
      if (!dying || i > 0) {
        place(tensor);
        continue;
      }
      const start = offset.get(dying)!;
      offset.set(tensor, start);
      taken.find((other) => other.start === start)!.until = lastUse.get(tensor)!;
    }
  }
  return { offset, bytes: end };
}

export function alignUp(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
