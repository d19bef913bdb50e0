/**
 * The backward pass, derived from a recorded forward pass (reverse-mode differentiation; Griewank & Walther, "Evaluating
 * Derivatives", 2008): the list is walked from its end, and each operation adds the operations that carry its gradient on.
 * A weight used twice (a shared block, a tied embedding) has one gradient, which both uses add to.
 */
import { invariant } from "../errors.ts";
import { crossEntropy, crossEntropyBack } from "../kernels/cross-entropy/cross-entropy.ts";
import { add } from "../kernels/elementwise/elementwise.ts";
import { type GradientTape, isA, type Operation, readsOf, resultOf, writesOf } from "../kernels/operation.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { createOperation, replaceTensors } from "./recorder.ts";

export type BackwardOptions = {
  /** (1, 1): the factor of Σ losses, an input. */
  readonly scale: Tensor;
  /** Where a weight's gradient is added up; undefined for a frozen one, which has none. */
  readonly gradientOf: (weight: Tensor) => Tensor | undefined;
  /**
   * Where the forward pass may be cut (counts of operations, ascending). Activations that live within one stretch are
   * then computed again when its gradients are due, rather than kept: the same numbers, in less memory.
   */
  readonly recompute?: readonly number[];
};

/**
 * Forward and backward as one list.
 * @param forward ends with `crossEntropy`, the loss; everything before is differentiated.
 */
export function backward(forward: readonly Operation[], options: BackwardOptions): Operation[] {
  const loss = forward.at(-1);
  invariant(loss && isA(loss, crossEntropy), "the loss must be the last operation");
  const body = forward.slice(0, -1);
  const { scale } = options;
  /** The gradients of activations, as far as they are summed. */
  const known = new Map<Tensor, Tensor>();
  let list: Operation[] = [];
  let made = body.length;

  const tape: GradientTape = {
    record(op, given) {
      const created = createOperation(op, given, made++);
      list.push(created.operation);
      return created.made;
    },
    gradientOf(weight) {
      const gradient = options.gradientOf(weight);
      invariant(!gradient || weight.dtype === "f32", `${weight.name} can't be trained`);
      return gradient;
    },
    add(x, gradient) {
      const before = known.get(x);
      known.set(x, before ? tape.record(add, { a: before, b: gradient }).y : gradient);
    },
    known: (x) => known.get(x),
    replace: (x, gradient) => void known.set(x, gradient),
  };

  const { losses, x, weight, targets } = loss.operands;
  const { dx } = tape.record(crossEntropyBack, { x, weight, targets, scale, dWeight: tape.gradientOf(weight) });
  known.set(x, dx);
  // The same losses, and their gradients: one operation in the place of the loss.
  const lossBack = replaceTensors(list[0]!, (_, operand) => (operand === "losses" ? losses : undefined));

  /** Operations that carry `operation`'s gradient on to its operands. */
  function derive(operation: Operation): Operation[] {
    const dy = known.get(resultOf(operation));
    if (!dy) return [];
    invariant(operation.op.gradient, `${operation.op.name} has no gradient`);
    list = [];
    operation.op.gradient(operation.operands as Record<string, Tensor>, operation.settings, dy, tape);
    return list;
  }

  const stretches = cut(body, options.recompute ?? []);
  const backwardOf = stretches
    .toReversed()
    .map(({ start, end }) => body.slice(start, end).toReversed().flatMap(derive));
  const operations = [...body, lossBack];
  stretches.toReversed().forEach(({ start, end }, index) => {
    const derived = backwardOf[index]!;
    operations.push(...(options.recompute ? recomputed(body, start, end, derived) : derived));
  });
  return withoutUnread(operations);
}

/** Leaves out what nothing reads: gradients of activations below which all is frozen. */
function withoutUnread(operations: readonly Operation[]): Operation[] {
  const read = new Set<Tensor>();
  const kept = operations.toReversed().filter((operation) => {
    const isWanted = writesOf(operation).some((tensor) => tensor.kind !== "activation" || read.has(tensor));
    if (isWanted) readsOf(operation).forEach((tensor) => read.add(tensor));
    return isWanted;
  });
  return kept.toReversed();
}

type Stretch = { readonly start: number; readonly end: number };

function cut(body: readonly Operation[], at: readonly number[]): Stretch[] {
  const bounds = [...new Set([0, ...at, body.length])];
  return bounds.slice(1).map((end, index) => ({ start: bounds[index]!, end }));
}

/** `derived` over activations of the stretch made anew: first the forward operations that it needs, then itself. */
function recomputed(
  body: readonly Operation[],
  start: number,
  end: number,
  derived: readonly Operation[],
): Operation[] {
  const readLater = new Set(body.slice(end).flatMap(readsOf)); // kept
  const needed = new Set(derived.flatMap(readsOf));
  const again = body
    .slice(start, end)
    .toReversed()
    .filter((operation) => {
      const isNeeded = writesOf(operation).some((tensor) => needed.has(tensor) && !readLater.has(tensor));
      if (isNeeded) readsOf(operation).forEach((tensor) => needed.add(tensor));
      return isNeeded;
    })
    .toReversed();
  const twins = new Map<Tensor, Tensor>();
  for (const tensor of again.flatMap(writesOf)) {
    if (!readLater.has(tensor)) twins.set(tensor, { ...tensor, name: `${tensor.name} again` });
  }
  /** What is kept is not made again over itself: a result of which only a part is needed goes to a place of its own. */
  const inNewPlaces = new Map(twins);
  for (const tensor of again.flatMap(writesOf)) {
    if (!inNewPlaces.has(tensor)) inNewPlaces.set(tensor, { ...tensor, name: `${tensor.name} spare` });
  }
  return [
    ...again.map((operation) => {
      const written = new Set(writesOf(operation));
      return replaceTensors(operation, (tensor) => (written.has(tensor) ? inNewPlaces : twins).get(tensor));
    }),
    ...derived.map((operation) => replaceTensors(operation, (tensor) => twins.get(tensor))),
  ];
}
