import { describe, expect, it } from "vitest";
import { plainWasm, reference, rowCounts, twoThreads, wasm } from "../../../test/support/kernel-agreement.ts";
import type { ReplayOptions } from "../../backends/backend.ts";
import { createRecorder, ids, input, type Recorder } from "../../program/recorder.ts";
import { rowsIn, type Tensor } from "../../tensor/tensor.ts";
import * as oracles from "./rows.reference.ts";

it("stores each row where it is told, and leaves the others as they are", () => {
  const cache = Float32Array.from({ length: 10 }, () => -1);
  oracles.store(cache, Float32Array.of(1, 2, 3, 4), 2, 2, (t) => [3, 0][t]!);
  expect([...cache]).toEqual([3, 4, -1, -1, -1, -1, 1, 2, -1, -1]);
});

it("picks rows by index, one of them twice", () => {
  const y = new Float32Array(6);
  oracles.pick(y, Float32Array.of(1, 2, 3, 4, 5, 6), [2, 0, 2], 3, 2);
  expect([...y]).toEqual([5, 6, 1, 2, 5, 6]);
});

type Values = Float32Array | Int32Array;

/** A row's numbers tell where it comes from; whole numbers are NaN to who takes them for floats. */
const valuesOf = (dtype: Tensor["dtype"], count: number, first: number): Values =>
  dtype === "i32"
    ? Int32Array.from({ length: count }, (_, i) => -(first + i))
    : Float32Array.from({ length: count }, (_, i) => first + i + 0.5);

const numbersOf = (dtype: Tensor["dtype"], { buffer, byteOffset, byteLength }: Uint8Array): number[] => [
  ...(dtype === "i32"
    ? new Int32Array(buffer, byteOffset, byteLength / 4)
    : new Float32Array(buffer, byteOffset, byteLength / 4)),
];

describe.each([
  ["reference", reference],
  ["relaxed", wasm],
  ["plain", plainWasm],
  ["two threads", twoThreads],
])("on the %s backend", (_, backend) => {
  async function carryOut(
    tokens: number,
    position: number,
    values: ReadonlyMap<Tensor, Values>,
    record: (r: Recorder) => Tensor,
  ): Promise<number[]> {
    const limits = { tokens: tokens + 2, outputs: tokens + 2, positions: 64 };
    const numbers = { tokens, position, outputs: tokens };
    const r = createRecorder(limits);
    const made = record(r);
    const { program, y } =
      made.kind === "cache" ? { program: { limits, operations: r.operations }, y: made } : r.finish({ y: made });
    const machine = await backend.open();
    const prepared = await machine.prepare(program);
    const inputs: NonNullable<ReplayOptions["inputs"]>[number][] = [];
    for (const [tensor, { buffer }] of values) {
      const bytes = new Uint8Array(buffer);
      if (tensor.kind === "cache") await machine.write(tensor, 0, bytes);
      else inputs.push({ tensor, bytes });
    }
    const output = { tensor: y, length: rowsIn(y, numbers) * y.cols * 4 };
    const result = await prepared.run(numbers, { inputs, output });
    await machine.dispose();
    return numbersOf(y.dtype, result.slice());
  }

  describe.each(rowCounts)("%i rows", (tokens) => {
    it.each([
      ["f32", 1],
      ["f32", 7],
      ["f32", 64],
      ["i32", 3],
    ] as const)("are stored in %s at width %i, from the position on and at slots", async (dtype, cols) => {
      const cache: Tensor = { name: "cache", kind: "cache", dtype, rows: 64, cols };
      const x: Tensor = { ...input("x", cols), dtype };
      const slots = ids("slots", "tokens");
      const [held, rows] = [valuesOf(dtype, 64 * cols, 10_000), valuesOf(dtype, tokens * cols, 1)];
      const expected = (slotOf: (t: number) => number): number[] => {
        const values = [...held];
        for (let t = 0; t < tokens; t++)
          values.splice(slotOf(t) * cols, cols, ...rows.subarray(t * cols, (t + 1) * cols));
        return values;
      };
      const given = new Map([
        [cache, held],
        [x, rows],
      ]);
      const inOrder = await carryOut(tokens, 9, given, (r) => r.store({ cache, x }));
      expect(inOrder).toEqual(expected((t) => 9 + t));
      const at = Int32Array.from({ length: tokens }, (__, t) => (t * 11 + 5) % 64);
      const anywhere = await carryOut(tokens, 9, new Map([...given, [slots, at]]), (r) => r.store({ cache, x, slots }));
      expect(anywhere).toEqual(expected((t) => at[t]!));
    });

    it.each([1, 10, 64])("are picked at width %i, one of them twice", async (cols) => {
      const [x, rows] = [input("x", cols), ids("rows", "outputs")];
      const values = valuesOf("f32", tokens * cols, 1);
      const chosen = Int32Array.from({ length: tokens }, (__, n) => (n === 0 ? tokens - 1 : (tokens - n) % tokens));
      const given = new Map<Tensor, Values>([
        [x, values],
        [rows, chosen],
      ]);
      const picked = await carryOut(tokens, 0, given, (r) => r.pick({ x, rows }));
      expect(picked).toEqual([...chosen].flatMap((row) => [...values.subarray(row * cols, (row + 1) * cols)]));
    });
  });
});
