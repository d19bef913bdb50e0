/** A program's operations as commands of the kernels, not yet knowing where anything lies. */
import { invariant } from "../../errors.ts";
import { forms, type Kernel, type Sized } from "../../kernels/kernel.ts";
import { lowerings } from "../../kernels/kernels.ts";
import type { Lower, Lowering, Part, Temporary } from "../../kernels/lowering.ts";
import { type Declaration, isRead, isWritten, kernelOf, type Operation, type Role } from "../../kernels/operation.ts";
import { fuseSums } from "../../program/fuse-sums.ts";
import type { Step } from "../../program/memory-plan.ts";
import type { Program } from "../../program/program.ts";
import { packedBytes } from "../../tensor/dtype.ts";
import { type Extent, type Limits, maxRows, type Tensor } from "../../tensor/tensor.ts";

/** One call of a kernel. */
export type Command = Step & {
  readonly kernel: Kernel;
  readonly operands: Readonly<Record<string, Part | undefined>>;
  readonly rows: Extent;
  /** Sizes and counts in the kernel's order, then its settings. */
  readonly sizes: readonly number[];
  readonly settings: readonly number[];
  readonly scratchBytes: number;
};

export type Lowered = {
  readonly commands: readonly Command[];
  /** Weights that must lie row by row. */
  readonly needRows: ReadonlySet<Tensor>;
};

/** @param formOf how a weight lies now. */
export function lowerProgram(program: Program, formOf: (tensor: Tensor) => number): Lowered {
  const { limits } = program;
  const commands: Command[] = [];
  const needRows = new Set<Tensor>();
  const made = new Map<Tensor, Temporary>();
  const lowering: Lowering = {
    limits,
    formOf,
    needsRows: (weight) => void needRows.add(weight),
    temporary: (name, rows, cols, bytes = maxRows({ rows }, limits) * cols * 4) => ({
      name,
      kind: "activation",
      dtype: "f32",
      rows,
      cols,
      bytes,
    }),
    once(x, make) {
      const known = made.get(x) ?? make();
      made.set(x, known);
      return known;
    },
    command(kernel, operands, { sizes = {}, settings = {}, rows, scratchBytes = kernel.scratchBytes ?? 0 } = {}) {
      const parts = Object.fromEntries(Object.keys(kernel.operands).map((name) => [name, partOf(operands[name])]));
      commands.push(createCommand(kernel, parts, { sizes, settings, rows, scratchBytes }, limits, formOf));
    },
  };
  for (const operation of fuseSums(program)) lowerOperation(operation, lowering);
  for (const { kernel, operands } of commands) {
    for (const [name, part] of Object.entries(operands)) {
      if (part?.tensor.kind === "weight" && kernel.operands[name] === "inout") needRows.add(part.tensor);
    }
  }
  return { commands, needRows };
}

function lowerOperation(operation: Operation, lowering: Lowering): void {
  const { op, operands, settings } = operation;
  const lower = lowerings[op.name as keyof typeof lowerings] as Lower<Declaration> | undefined;
  if (lower) return lower(operation as Parameters<typeof lower>[0], lowering);
  const kernel = kernelOf(op);
  invariant(kernel, `${op.name} has no kernel`);
  lowering.command(kernel, operands, { settings });
}

function partOf(operand: Tensor | Part | undefined): Part | undefined {
  return operand && ("tensor" in operand ? operand : { tensor: operand, offset: 0 });
}

type Given = {
  readonly sizes: Readonly<Record<string, number>>;
  readonly settings: Readonly<Record<string, number>>;
  readonly rows: Extent | undefined;
  readonly scratchBytes: number;
};

function createCommand(
  kernel: Kernel,
  operands: Readonly<Record<string, Part | undefined>>,
  given: Given,
  limits: Limits,
  formOf: (tensor: Tensor) => number,
): Command {
  const named = Object.entries(kernel.operands).flatMap(([name, role]) => {
    const part = operands[name];
    return part ? [{ name, role, tensor: part.tensor }] : [];
  });
  const tensorsOf = (wanted: (role: Role) => boolean): Tensor[] =>
    named.filter(({ role }) => wanted(role)).map(({ tensor }) => tensor);
  const shapes = Object.fromEntries(
    named.map(({ name, tensor }): [string, Sized] => [
      name,
      { rows: maxRows(tensor, limits), cols: tensor.cols, form: formOf(tensor) },
    ]),
  );
  const sizes = Object.entries({ ...kernel.sizes, ...kernel.counts }).map(([name, rule]) => {
    const size = given.sizes[name] ?? rule?.(shapes, given.settings);
    invariant(size !== undefined, `${kernel.name} needs ${name}`);
    return size;
  });
  const leading = operands[kernel.rowsOf ?? Object.keys(kernel.operands)[0]!]!.tensor;
  return {
    kernel,
    operands,
    rows: given.rows ?? leading.rows,
    sizes,
    settings: kernel.settings.map((name) => given.settings[name]!),
    scratchBytes: given.scratchBytes,
    reads: tensorsOf(isRead),
    writes: tensorsOf(isWritten),
    overlays: (kernel.overlays ?? []).flatMap((name) => operands[name]?.tensor ?? []),
  };
}

/** Bytes of a tensor at its largest. A matrix of weights has room for both ways in which it may lie. */
export function tensorBytes(tensor: Tensor | Temporary, limits: Limits): number {
  if ("bytes" in tensor) return tensor.bytes;
  const rows = maxRows(tensor, limits);
  const { dtype } = tensor;
  return dtype !== "i32" && isMatrix(tensor) ? packedBytes(dtype, rows, tensor.cols) : rows * tensor.cols * 4;
}

/** How a tensor lies: matrices of weights in blocks of 8 rows until they are trained, everything else row by row. */
export function formOf(tensor: Tensor, trained: ReadonlySet<Tensor>): number {
  const { dtype } = tensor;
  return dtype !== "i32" && isMatrix(tensor) && !trained.has(tensor) ? forms[dtype] : forms.rows;
}

/** A weight, but for gains: a row of f32. */
function isMatrix({ kind, rows, dtype }: Tensor): boolean {
  return kind === "weight" && !(rows === 1 && dtype === "f32");
}
