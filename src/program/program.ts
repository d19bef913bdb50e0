/**
 * A program: a flat list of operations over tensors, recorded once by running the model function against a recorder,
 * then replayed by a backend any number of times (DESIGN, idea 2). Every operation makes new tensors, so that the
 * backward pass can be derived from the list (backward.ts) and the memory plan can see how long each tensor lives; only
 * gradients, moments and trained weights are added to or overwritten in place.
 *
 * Four run-time numbers vary between replays: `tokens` T (rows of most activations), `position` P (cache rows before
 * them), `outputs` N (rows that reach the head) and `length` (rows of one sequence when several are trained on at once).
 * All else is fixed when recorded.
 */
import { invariant } from "../errors.ts";
import { GROUP, packedBytes } from "../tensor/dtype.ts";
import { type Operation, readsOf, type Tensor, writesOf } from "./operation.ts";

/** The most that the run-time numbers may reach; buffers are planned for these. */
export type Limits = {
  /** T of one replay. */
  readonly tokens: number;
  /** N of one replay. */
  readonly outputs: number;
  /** P + T: rows of a cache. */
  readonly positions: number;
};

/** The run-time numbers of one replay. */
export type RunNumbers = {
  readonly tokens: number;
  readonly position: number;
  readonly outputs: number;
  /** Rows of one sequence; default: all tokens are one. Only training has more. */
  readonly length?: number;
};

export type Program = {
  readonly limits: Limits;
  readonly operations: readonly Operation[];
  /** Stretches that are replayed by name; without any, a replay is the whole list. */
  readonly parts?: ReadonlyMap<string, Part>;
};

/** Operations `start` to `end` (exclusive). Activations don't outlive their part. */
export type Part = { readonly start: number; readonly end: number };

/** Rows of a tensor at their largest. */
export function maxRows(tensor: Tensor, limits: Limits): number {
  return typeof tensor.rows === "number" ? tensor.rows : limits[tensor.rows];
}

/** Bytes of a tensor at its largest. */
export function tensorBytes(tensor: Tensor, limits: Limits): number {
  const rows = maxRows(tensor, limits);
  if (tensor.dtype === "i32") return rows * tensor.cols * 4;
  if (tensor.dtype === "a16") return rows * quantizedRowBytes(tensor.cols);
  if (!tensor.isBlocked) {
    invariant(tensor.dtype === "f32", `${tensor.name}: ${tensor.dtype} is kept in blocks of rows`);
    return rows * tensor.cols * 4;
  }
  return packedBytes(tensor.dtype, rows, tensor.cols);
}

/** Bytes of a quantized activation row: 16-bit values padded to whole groups, then a scale and a sum for each group. */
export function quantizedRowBytes(cols: number): number {
  return Math.ceil(cols / GROUP) * (GROUP * 2 + 8);
}

/** Every tensor of a program once, in order of first appearance. */
export function tensorsOf(program: Program): Tensor[] {
  return [...new Set(program.operations.flatMap((operation) => [...readsOf(operation), ...writesOf(operation)]))];
}
