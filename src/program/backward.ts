/**
 * The backward pass, derived from a recorded forward pass (reverse-mode differentiation; Griewank & Walther, "Evaluating
 * Derivatives", 2008): the list is walked from its end, and each operation adds the operations that carry its gradient on.
 * A weight used twice (a shared block, a tied embedding) has one gradient, which both uses add to.
 */
import { invariant } from "../errors.ts";
import { type Operation, readsOf, type Tensor, writesOf } from "./operation.ts";

export type BackwardOptions = {
  /** (1, 1): the factor of Σ losses, an input. */
  readonly scale: Tensor;
  /**
   * Where the forward pass may be cut (counts of operations, ascending). Activations that live within one stretch are
   * then computed again when its gradients are due, rather than kept: the same numbers, in less memory.
   */
  readonly recompute?: readonly number[];
};

export type Backward = {
  /** Forward and backward: replaces the forward list. */
  readonly operations: readonly Operation[];
  /** By weight. */
  readonly gradients: ReadonlyMap<Tensor, Tensor>;
};

/** @param forward ends with `crossEntropy`, the loss; everything before is differentiated. */
export function backward(forward: readonly Operation[], options: BackwardOptions): Backward {
  const loss = forward.at(-1);
  invariant(loss?.op === "crossEntropy", "the loss must be the last operation");
  const body = forward.slice(0, -1);
  const gradients = new Map<Tensor, Tensor>();
  /** Of activations, as far as they are summed. */
  const known = new Map<Tensor, Tensor>();
  let made = 0;

  const like = (tensor: Tensor, name = `d.${tensor.name}`): Tensor => ({
    name: `${name}.${made++}`,
    kind: "activation",
    dtype: "f32",
    rows: tensor.rows,
    cols: tensor.cols,
  });
  const gradientOf = (weight: Tensor): Tensor => {
    let gradient = gradients.get(weight);
    if (!gradient) {
      invariant(weight.kind === "weight" && weight.dtype === "f32", `${weight.name} can't be trained`);
      gradient = { ...weight, name: `gradient of ${weight.name}`, kind: "gradient" };
      gradients.set(weight, gradient);
    }
    return gradient;
  };

  const dx = like(loss.x);
  known.set(loss.x, dx);
  const lossBack: Operation = {
    ...loss,
    op: "crossEntropyBack",
    dx,
    dWeight: gradientOf(loss.weight),
    scale: options.scale,
  };

  /** Operations that carry `operation`'s gradient on to its operands. */
  function derive(operation: Operation): Operation[] {
    const dy = known.get(operation.out);
    if (!dy) return [];
    /** A gradient of `x` that an operation makes by adding to what is known. */
    const onto = (x: Tensor, make: (out: Tensor, plus: Tensor | undefined) => Operation): Operation => {
      const out = like(x);
      const derived = make(out, known.get(x));
      known.set(x, out);
      return derived;
    };
    /** The same for one that can't add. */
    const sum = (x: Tensor, gradient: Tensor): Operation[] => {
      const before = known.get(x);
      if (!before) {
        known.set(x, gradient);
        return [];
      }
      return [onto(x, (out) => ({ op: "add", out, x: before, y: gradient }))];
    };

    switch (operation.op) {
      case "embed":
        return [{ op: "embedBack", out: gradientOf(operation.table), tokens: operation.tokens, dy }];
      case "matmul": {
        const { x, weight, plus: base } = operation;
        return [
          { op: "matmulWeight", out: gradientOf(weight), dy, x },
          onto(x, (out, plus) => ({ op: "matmulInput", out, dy, weight, plus })),
          ...(base ? sum(base, dy) : []),
        ];
      }
      case "rmsnorm": {
        const { x, gain, eps } = operation;
        const scale: Tensor = { ...like(x, "scale"), cols: 1 };
        return [
          onto(x, (out, plus) => ({ op: "rmsnormBack", out, scale, dy, x, gain, plus, eps })),
          { op: "gainBack", out: gradientOf(gain), dy, x, scale },
        ];
      }
      case "rope": {
        const out = like(operation.x);
        return [
          { op: "rope", out, x: dy, angles: operation.angles, isInverse: true, places: undefined },
          ...sum(operation.x, out),
        ];
      }
      case "selfAttention": {
        const { out: y, lse, q, keys, values, headSize } = operation;
        const [out, dKeys, dValues] = [like(q), like(keys), like(values)];
        return [
          { op: "selfAttentionBack", out, dKeys, dValues, dy, y, lse, q, keys, values, headSize },
          ...sum(q, out),
          ...sum(keys, dKeys),
          ...sum(values, dValues),
        ];
      }
      case "swiglu": {
        const { gate, up } = operation;
        const [out, dUp] = [like(gate), like(up)];
        return [{ op: "swigluBack", out, dUp, dy, gate, up }, ...sum(gate, out), ...sum(up, dUp)];
      }
      case "relu": {
        const out = like(operation.x);
        return [{ op: "reluBack", out, dy, x: operation.x }, ...sum(operation.x, out)];
      }
      case "add":
        return [...sum(operation.x, dy), ...sum(operation.y, dy)];
      default:
        throw new Error(`internal: ${operation.op} has no gradient`);
    }
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
  return { operations, gradients };
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
  const stretch = body.slice(start, end);
  const again = stretch
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
    ...again.map((operation) =>
      replaceTensors(operation, (tensor, isWritten) => (isWritten ? inNewPlaces : twins).get(tensor)),
    ),
    ...derived.map((operation) => replaceTensors(operation, (tensor) => twins.get(tensor))),
  ];
}

function replaceTensors(
  operation: Operation,
  replacement: (tensor: Tensor, isWritten: boolean) => Tensor | undefined,
): Operation {
  const written = new Set(writesOf(operation));
  const fields = Object.entries(operation).map(([key, value]: [string, unknown]) => {
    if (typeof value !== "object" || value === null) return [key, value];
    const tensor = value as Tensor; // the only objects that an operation holds
    return [key, replacement(tensor, written.has(tensor)) ?? tensor];
  });
  return Object.fromEntries(fields) as Operation;
}
