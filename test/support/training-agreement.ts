/**
 * What the tests beside the training kernels share: operations run as a program of their own on both builds of the
 * WebAssembly backend and on the reference; whatever they leave in outputs and gradients must agree.
 */
import type { Backend } from "../../src/backends/backend.ts";
import type { Declaration, Given, Made, Operation, Roles } from "../../src/kernels/operation.ts";
import { tensorsOf } from "../../src/kernels/operation.ts";
import { type Extent, maxRows, type Tensor } from "../../src/tensor/tensor.ts";
import { createRandom } from "../../src/random.ts";
import { expect } from "vitest";
import { expectClose, largestOf, plainWasm, reference, TOLERANCE, wasm } from "./kernel-agreement.ts";

/** Rows that break tiles: of 6 rows, of 8 columns, of 48 queries and 64 keys, of chunks of 32. */
export const trainingRowCounts: readonly number[] = [1, 2, 5, 37, 49, 97, 130];

export type TrainingCase = {
  readonly tokens: number;
  /** Rows of one sequence. */
  readonly length?: number;
  readonly record: (make: TensorMaker) => readonly Operation[];
  readonly tolerance?: number;
};

export type TensorMaker = {
  /** Random numbers, or the given ones. */
  readonly input: (cols: number, rows?: Extent, values?: ArrayLike<number>) => Tensor;
  readonly ids: (idOf: (row: number) => number) => Tensor;
  /** Zeros at first. */
  readonly output: (cols: number, rows?: Extent) => Tensor;
  readonly activation: (cols: number, rows: Extent) => Tensor;
  /** Changed in place: random numbers at first, or the given ones. */
  readonly gradient: (rows: number, cols: number, values?: ArrayLike<number>) => Tensor;
};

/** More rows are planned than run, and what lies behind the last must stay as it was. */
const SPARE_ROWS = 3;

/** An operation whose results are the caller's, too. */
export function operate<R extends Roles, S>(op: Declaration<R, S>, given: Given<R> & Made<R> & S): Operation {
  const all = given as Readonly<Record<string, unknown>>;
  const operands = Object.keys(op.operands).map((name) => [name, all[name]]);
  const settings = op.settings.map((name) => [name, all[name]]);
  return {
    op: op as unknown as Declaration,
    operands: Object.fromEntries(operands) as Operation["operands"],
    settings: Object.fromEntries(settings) as Operation["settings"],
  };
}

/** What outputs and gradients hold after a replay, by name. */
export async function runTraining(
  backend: Backend,
  { tokens, length = tokens, record }: TrainingCase,
): Promise<Map<string, Float32Array>> {
  const random = createRandom(5);
  const limits = { tokens: tokens + SPARE_ROWS, outputs: tokens, positions: tokens };
  const filled = new Map<Tensor, Float32Array | Int32Array>();
  let made = 0;
  const tensor = (kind: Tensor["kind"], rows: Extent, cols: number, dtype: "f32" | "i32" = "f32"): Tensor => ({
    name: `${kind} ${made++}`,
    kind,
    dtype,
    rows,
    cols,
  });
  const randomValues = (count: number): Float32Array => {
    const array = Float32Array.from({ length: count }, () => random.normal());
    array[random.below(count)] = 20; // an outlier
    return array;
  };
  const fill = (target: Tensor, values?: ArrayLike<number>): Tensor => {
    const count = (typeof target.rows === "number" ? target.rows : tokens) * target.cols;
    filled.set(target, values ? Float32Array.from(values) : randomValues(count));
    return target;
  };
  const operations = record({
    input: (cols, rows = "tokens", values) => fill(tensor("input", rows, cols), values),
    ids(idOf) {
      const ids = tensor("input", "tokens", 1, "i32");
      const values = Int32Array.from({ length: tokens }, (_, row) => idOf(row));
      filled.set(ids, values);
      return ids;
    },
    output: (cols, rows = "tokens") => tensor("output", rows, cols),
    activation: (cols, rows) => tensor("activation", rows, cols),
    gradient: (rows, cols, values) => fill(tensor("gradient", rows, cols), values),
  });
  const machine = await backend.open();
  const prepared = await machine.prepare({ limits, operations });
  for (const [target, { buffer }] of filled) await machine.write(target, 0, new Uint8Array(buffer));
  await prepared.run({ tokens, position: 0, outputs: 0, length });
  const results = new Map<string, Float32Array>();
  for (const kept of tensorsOf(operations)) {
    if (kept.kind !== "output" && kept.kind !== "gradient") continue;
    const { buffer, byteOffset } = await machine.read(kept, 0, maxRows(kept, limits) * kept.cols * 4);
    results.set(kept.name, new Float32Array(buffer, byteOffset));
  }
  await machine.dispose();
  return results;
}

export async function expectTrainingAgreement(test: TrainingCase): Promise<void> {
  const expected = await runTraining(reference, test);
  const largest = Math.max(...Array.from(expected.values(), largestOf));
  expect(largest, "an expectation of zeros would pass too easily").toBeGreaterThan(0);
  for (const backend of [wasm, plainWasm]) {
    const actual = await runTraining(backend, test);
    for (const [name, values] of expected) {
      const what = `${name} of the ${backend === wasm ? "relaxed" : "plain"} build`;
      expectClose(actual.get(name)!, values, test.tolerance ?? TOLERANCE, what);
    }
  }
}
