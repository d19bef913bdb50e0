/**
 * Where every tensor of a program lies, worked out before a byte is taken. Weights, constants, caches, inputs and outputs
 * have places of their own; activations share: a place is free again after the last operation that reads its tensor.
 */
import { overlaysOf, readsOf, type Tensor, writesOf } from "./operation.ts";
import { type Program, tensorBytes, tensorsOf } from "./program.ts";

/** Places start at multiples of this: a cache line, so that two threads never write to the same one. */
const ALIGNMENT = 64;

export type MemoryPlan = {
  /** Byte address of each tensor, from `base` on. */
  readonly address: ReadonlyMap<Tensor, number>;
  /** First byte after the plan. */
  readonly end: number;
  readonly bytes: MemoryClasses;
};

/** Bytes by class. */
export type MemoryClasses = {
  readonly weights: number;
  readonly constants: number;
  readonly cache: number;
  readonly gradients: number;
  /** The optimizer's moments. */
  readonly moments: number;
  /** Shared places of activations, and inputs and outputs. */
  readonly activations: number;
};

/** Of what doesn't share its place. */
export const classOf = {
  weight: "weights",
  constant: "constants",
  cache: "cache",
  gradient: "gradients",
  moment: "moments",
  input: "activations",
  output: "activations",
} as const;

/** Lays out `program` from byte `base` on. */
export function planMemory(program: Program, base: number): MemoryPlan {
  const address = new Map<Tensor, number>();
  const bytes = { weights: 0, constants: 0, cache: 0, gradients: 0, moments: 0, activations: 0 };
  let end = alignUp(base);

  const place = (tensor: Tensor): number => {
    const size = alignUp(tensorBytes(tensor, program.limits));
    address.set(tensor, end);
    end += size;
    return size;
  };
  for (const tensor of tensorsOf(program)) {
    if (tensor.kind !== "activation") bytes[classOf[tensor.kind]] += place(tensor);
  }

  const arena = placeActivations(program);
  for (const [tensor, offset] of arena.offset) address.set(tensor, end + offset);
  bytes.activations += arena.size;
  return { address, end: end + arena.size, bytes };
}

function placeActivations(program: Program): { offset: Map<Tensor, number>; size: number } {
  const lastRead = new Map<Tensor, number>();
  program.operations.forEach((operation, index) => {
    // A result that nobody reads still needs its place while it is made.
    for (const tensor of [...writesOf(operation), ...readsOf(operation)]) lastRead.set(tensor, index);
  });

  const offset = new Map<Tensor, number>();
  const bytesOf = (tensor: Tensor): number => alignUp(tensorBytes(tensor, program.limits));
  const taken: { start: number; size: number; until: number }[] = []; // by start
  let size = 0;

  function place(tensor: Tensor): void {
    const need = bytesOf(tensor);
    let start = 0;
    let at = 0; // first gap that is wide enough
    while (at < taken.length && taken[at]!.start - start < need) {
      start = taken[at]!.start + taken[at]!.size;
      at++;
    }
    taken.splice(at, 0, { start, size: need, until: lastRead.get(tensor)! });
    offset.set(tensor, start);
    size = Math.max(size, start + need);
  }

  program.operations.forEach((operation, index) => {
    for (let i = taken.length - 1; i >= 0; i--) if (taken[i]!.until < index) taken.splice(i, 1);
    for (const tensor of writesOf(operation)) {
      if (tensor.kind !== "activation" || offset.has(tensor)) continue;
      const reads = readsOf(operation);
      const dying = overlaysOf(operation).find(
        (operand) =>
          offset.has(operand) &&
          lastRead.get(operand) === index &&
          bytesOf(operand) === bytesOf(tensor) &&
          reads.filter((read) => read === operand).length === 1, // in no other role
      );
      if (!dying || tensor !== operation.out) {
        place(tensor);
        continue;
      }
      const start = offset.get(dying)!;
      offset.set(tensor, start);
      taken.find((place) => place.start === start)!.until = lastRead.get(tensor)!;
    }
  });
  return { offset, size };
}

function alignUp(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}
