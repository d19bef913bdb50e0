/** What an operation uses to become commands of the WebAssembly kernels, where one command is not enough or not always the same. */
import type { Extent, Limits, Tensor } from "../tensor/tensor.ts";
import type { Kernel } from "./kernel.ts";
import type { Declaration } from "./operation.ts";

/** Memory that commands of one operation, or of all that read one tensor, share: its bytes are their own affair. */
export type Temporary = Tensor & { readonly bytes: number };

/** An operand from byte `offset` on. */
export type Part = { readonly tensor: Tensor; readonly offset: number };

export type CommandOptions = {
  /** Those that don't follow from the operands. */
  readonly sizes?: Readonly<Record<string, number>>;
  readonly settings?: Readonly<Record<string, number>>;
  /** Rows of the command, where they are not those of its operand. */
  readonly rows?: Extent;
  /** Memory that each thread needs for itself, where the kernel does not say. */
  readonly scratchBytes?: number;
};

export type Lowering = {
  readonly limits: Limits;
  /** How a tensor lies: `forms`. */
  formOf(tensor: Tensor): number;
  /** Asks for a weight in f32, row by row. */
  needsRows(weight: Tensor): void;
  /** f32 numbers (rows, cols), or another number of bytes. */
  temporary(name: string, rows: Tensor["rows"], cols: number, bytes?: number): Temporary;
  /** Makes what follows from `x` the first time only, for all operations that read it. */
  once(x: Tensor, make: () => Temporary): Temporary;
  command(
    kernel: Kernel,
    operands: Readonly<Record<string, Tensor | Part | undefined>>,
    options?: CommandOptions,
  ): void;
};

/** Writes the commands of an operation. */
export type Lower<D> =
  D extends Declaration<infer R, infer S>
    ? (
        operation: {
          readonly operands: Parameters<NonNullable<Declaration<R, S>["gradient"]>>[0];
          readonly settings: S;
        },
        lowering: Lowering,
      ) => void
    : never;
