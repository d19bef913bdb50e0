/** Writes a program: the model function runs against a recorder once. */
import { type Declaration, type Given, type Made, type Operation, resultOf, type Roles } from "../kernels/operation.ts";
import { operations as declarations } from "../kernels/operations.ts";
import type { Dtype } from "../tensor/dtype.ts";
import { PLACE_WORDS } from "../tensor/places.ts";
import type { Extent, Limits, Tensor } from "../tensor/tensor.ts";
import type { Program } from "./program.ts";

type Methods = {
  readonly [K in keyof typeof declarations]: (typeof declarations)[K] extends Declaration<infer R, infer S>
    ? (given: Given<R> & S) => Tensor
    : never;
};

/** A method for each operation takes its operands and settings by name and gives its first result. One recorder makes one program. */
export type Recorder = Methods & {
  readonly limits: Limits;
  /** The operations so far. */
  readonly operations: readonly Operation[];
  /** Records any operation and gives all that it makes. */
  record<R extends Roles, S>(op: Declaration<R, S>, given: Given<R> & S): Made<R>;
  /** The program, in which each of `outputs` stays readable after a replay. */
  finish<K extends string>(
    outputs: Readonly<Record<K, Tensor>>,
  ): { readonly program: Program } & Readonly<Record<K, Tensor>>;
};

export function createRecorder(limits: Limits): Recorder {
  const operations: Operation[] = [];

  function record<R extends Roles, S>(op: Declaration<R, S>, given: Given<R> & S): Made<R> {
    const { operation, made } = createOperation(op, given, operations.length);
    operations.push(operation);
    return made;
  }

  const methods = Object.fromEntries(
    Object.values(declarations).map((op: Declaration) => [
      op.name,
      (given: Record<string, never>) => {
        record(op, given);
        return resultOf(operations.at(-1)!);
      },
    ]),
  ) as unknown as Methods;

  return {
    ...methods,
    limits,
    operations,
    record,
    finish(outputs) {
      const kept = new Map<Tensor, Tensor>();
      const named = Object.entries<Tensor>(outputs).map(([name, tensor]): [string, Tensor] => {
        const output: Tensor = { ...tensor, name, kind: "output" };
        kept.set(tensor, output);
        return [name, output];
      });
      const renamed = operations.map((operation) => replaceTensors(operation, (tensor) => kept.get(tensor)));
      return { program: { limits, operations: renamed }, ...(Object.fromEntries(named) as typeof outputs) };
    },
  };
}

/** @param index makes the names of its results unique. */
export function createOperation<R extends Roles, S>(
  op: Declaration<R, S>,
  given: Given<R> & S,
  index: number,
): { readonly operation: Operation; readonly made: Made<R> } {
  const all = given as Readonly<Record<string, unknown>>;
  const settings = Object.fromEntries(op.settings.map((name) => [name, all[name] as number]));
  const shapes = op.shape(given, settings as S);
  const made = Object.fromEntries(
    Object.entries(shapes).map(([name, { rows, cols }]): [string, Tensor] => [
      name,
      {
        name: `${op.name}.${index}${name === Object.keys(shapes)[0] ? "" : ` ${name}`}`,
        kind: "activation",
        dtype: "f32",
        rows,
        cols,
      },
    ]),
  );
  const operands = Object.fromEntries(
    Object.keys(op.operands).map((name) => [name, made[name] ?? (all[name] as Tensor | undefined)]),
  );
  return { operation: { op: op as unknown as Declaration, operands, settings }, made: made as Made<R> };
}

/** The operation with other tensors in the place of those for which `replacement` gives one. */
export function replaceTensors(
  { op, operands, settings }: Operation,
  replacement: (tensor: Tensor, operand: string) => Tensor | undefined,
): Operation {
  const fields = Object.entries(operands).map(([name, tensor]) => [
    name,
    tensor && (replacement(tensor, name) ?? tensor),
  ]);
  return { op, operands: Object.fromEntries(fields), settings };
}

/** A matrix that is learned. */
export function weight(name: string, rows: number, cols: number, dtype: Dtype = "f32"): Tensor {
  return { name, kind: "weight", dtype, rows, cols };
}

/** A matrix computed now and the same in every replay; its rows have `cols` numbers. */
export function constant(name: string, values: Float32Array, cols: number): Tensor {
  return { name, kind: "constant", dtype: "f32", rows: values.length / cols, cols, values };
}

/** Keys or values by position. */
export function cache(name: string, positions: number, cols: number): Tensor {
  return { name, kind: "cache", dtype: "f32", rows: positions, cols };
}

/** Where each cache row stands in its text (tensor/places.ts). */
export function placesCache(positions: number): Tensor {
  return { name: "places", kind: "cache", dtype: "i32", rows: positions, cols: PLACE_WORDS };
}

/** Whole numbers that the caller writes, by default one a row: token ids, rows to pick. */
export function ids(name: string, rows: Extent, cols: number = 1): Tensor {
  return { name, kind: "input", dtype: "i32", rows, cols };
}

/** An f32 matrix that the caller writes. */
export function input(name: string, cols: number, rows: Extent = "tokens"): Tensor {
  return { name, kind: "input", dtype: "f32", rows, cols };
}
