/**
 * How an operation is declared: once, in the folder of its kernels. From the declaration follow the recorder's method, what
 * the operation reads and writes, the call of its oracle, its gradient, and the words of its command.
 */
import { ShapeError } from "../errors.ts";
import type { RunNumbers, Tensor } from "../tensor/tensor.ts";
import type { Floats } from "./floats.ts";
import type { Kernel } from "./kernel.ts";

/** `ids`: whole numbers that are read. `in?` and `ids?` may be missing; `out?` is made where the shape rule gives it a shape. */
export type Role = "in" | "in?" | "ids" | "ids?" | "out" | "out?" | "inout" | "inout?";
export type Roles = Readonly<Record<string, Role>>;

type Keys<R, Wanted> = { [K in keyof R]: R[K] extends Wanted ? K : never }[keyof R];
/** The operands that a caller brings. */
export type Given<R> = { readonly [K in Keys<R, "in" | "ids" | "inout">]: Tensor } & {
  readonly [K in Keys<R, "in?" | "ids?" | "inout?">]?: Tensor | undefined;
};
/** Those that the operation makes. */
export type Made<R> = { readonly [K in Keys<R, "out">]: Tensor } & { readonly [K in Keys<R, "out?">]?: Tensor };
type Operands<R> = Given<R> & Made<R>;

/** The values of operands as an oracle sees them, row by row. */
export type Arrays<R> = { readonly [K in Keys<R, "in" | "out" | "inout">]: Floats } & {
  readonly [K in Keys<R, "in?" | "out?" | "inout?">]: Floats | undefined;
} & { readonly [K in Keys<R, "ids">]: Int32Array } & { readonly [K in Keys<R, "ids?">]: Int32Array | undefined };

/** Rows and columns of a result. */
export type Shape = Pick<Tensor, "rows" | "cols">;

/** A replay as an oracle sees it. */
export type Replay<R, S> = {
  /** Rows of the first operand that the operation makes or changes, in this replay. */
  readonly rows: number;
  /** Rows of any operand. */
  readonly rowsOf: (tensor: Tensor) => number;
  readonly numbers: Required<RunNumbers>;
  readonly of: Operands<R>;
  readonly settings: S;
};

/** What a gradient is written with. */
export type GradientTape = {
  /** Records an operation; gives what it makes. */
  record<R extends Roles, S>(op: Declaration<R, S>, given: Given<R> & S): Made<R>;
  /** The sum of the gradients of a weight, which operations add to; undefined for a frozen one. */
  gradientOf(weight: Tensor): Tensor | undefined;
  /** Adds `gradient` to what is known of the gradient of `x`. */
  add(x: Tensor, gradient: Tensor): void;
  /** What is known of the gradient of `x` so far, for an operation that adds as it goes, and its result: all that is known then. */
  known(x: Tensor): Tensor | undefined;
  replace(x: Tensor, gradient: Tensor): void;
};

export type Declaration<R extends Roles = Roles, S = object> = {
  readonly name: string;
  /** The roles of its operands, in the order in which the kernel takes them, results first. */
  readonly operands: R;
  /** Names of its numbers, in the order in which the kernel takes them. */
  readonly settings: readonly string[];
  /** Shapes of what it makes. @throws {ShapeError} where operands do not fit together. */
  shape(given: Given<R>, settings: S): Readonly<Record<string, Shape>>;
  /** What the operation means: plain TypeScript, sums in f64. */
  oracle(values: Arrays<R>, replay: Replay<R, S>): void;
  /** Carries the gradient `dy` of the first result on to the operands. */
  readonly gradient?: { rule(of: Operands<R>, settings: S, dy: Tensor, tape: GradientTape): void }["rule"];
  /** Floating-point operations of a replay with so many rows. */
  flops(of: Operands<R>, rows: number, settings: S, numbers: Required<RunNumbers>): number;
  /** Operands in whose place the first result may be made: each element is read before its successor is written, by one thread. */
  readonly overlays?: readonly string[];
  /** Its kernel, where one command does it, with the same operands and settings; else see `<operation>.commands.ts`. */
  readonly kernel?: Partial<Kernel<R, S>> & Pick<Kernel, "file" | "divide">;
};

/** One step of a program. */
export type Operation = {
  readonly op: Declaration;
  readonly operands: Readonly<Record<string, Tensor | undefined>>;
  readonly settings: Readonly<Record<string, number>>;
};

/** Gives a declaration its types: those of its operands, and `N`, the names of its settings. */
export function declare<const R extends Roles, const N extends string = never>(
  declaration: Declaration<R, Readonly<Record<N, number>>> & { readonly settings: readonly N[] },
): Declaration<R, Readonly<Record<N, number>>> {
  return declaration;
}

/** The kernel of an operation that one command carries out. */
export function kernelOf({ name, operands, settings, overlays, kernel }: Declaration): Kernel | undefined {
  return kernel && { name, operands, sizes: {}, settings, runtime: [], ...(overlays ? { overlays } : {}), ...kernel };
}

/** @throws {ShapeError} where `holds` is false, with the rule and both shapes. */
export function mustFit(op: string, rule: string, a: Tensor, b: Tensor, holds: boolean): void {
  if (holds) return;
  throw new ShapeError(
    `${op}: ${rule}, got ${a.name} (${a.rows}, ${a.cols}) and ${b.name} (${b.rows}, ${b.cols}). Is the checkpoint from another preset?`,
  );
}

/** Rows of a weight, which are fixed. @throws {ShapeError} if they are not. */
export function fixedRows({ name, rows }: Tensor): number {
  if (typeof rows === "number") return rows;
  throw new ShapeError(`weight: a fixed number of rows was required, ${name} has "${rows}".`);
}

/** Numbers of a tensor with a fixed number of rows. */
export function fixedCount(tensor: Tensor): number {
  return fixedRows(tensor) * tensor.cols;
}

/** An operation of this declaration. */
export function isA<R extends Roles, S>(
  operation: Operation,
  op: Declaration<R, S>,
): operation is Operation & { readonly operands: Operands<R>; readonly settings: S } {
  return operation.op.name === op.name;
}

/** Whether an operand of this role is read. */
export function isRead(role: Role): boolean {
  return !role.startsWith("out");
}

/** Whether it is made or changed. */
export function isWritten(role: Role): boolean {
  return role.includes("out");
}

/** The tensors that an operation reads, in the order of its operands. */
export function readsOf(operation: Operation): Tensor[] {
  return pick(operation, isRead);
}

/** The tensors that an operation makes or changes. */
export function writesOf(operation: Operation): Tensor[] {
  return pick(operation, isWritten);
}

/** The first tensor that an operation makes or changes. */
export function resultOf(operation: Operation): Tensor {
  return writesOf(operation)[0]!;
}

function pick({ op, operands }: Operation, wants: (role: Role) => boolean): Tensor[] {
  return Object.entries(op.operands).flatMap(([name, role]) => {
    const tensor = operands[name];
    return tensor && wants(role) ? [tensor] : [];
  });
}

/** Every tensor of a list of operations once, in order of first appearance. */
export function tensorsOf(operations: readonly Operation[]): Tensor[] {
  return [...new Set(operations.flatMap((operation) => [...readsOf(operation), ...writesOf(operation)]))];
}
