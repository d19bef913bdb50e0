import { describe, expect, it } from "vitest";
import {
  expectAgreement,
  type KernelCase,
  plainWasm,
  rowCounts,
  runCase,
  twoPlainThreads,
  twoThreads,
  wasm,
} from "../../../test/support/kernel-agreement.ts";
import { createRecorder, ids, input, weight as matrix } from "../../program/recorder.ts";
import { createRandom } from "../../random.ts";

describe.each(rowCounts)("linear over %i rows", (tokens) => {
  it.each([
    ["f32", 64, 24],
    ["f32", 37, 5],
    ["bf16", 64, 24],
    ["bf16", 39, 7],
    ["q8", 64, 24],
    ["q8", 92, 13],
    ["q8", 576, 40],
    ["q4", 64, 24],
    ["q4", 92, 13],
    ["q4", 576, 40],
  ] as const)("agrees with its oracle in %s from %i to %i", (dtype, inputs, outputs) =>
    expectAgreement({
      tokens,
      record: ({ r, input, weight }) => r.linear({ x: input(inputs), weight: weight(outputs, inputs, dtype) }),
    }),
  );
});

const product =
  (dtype: "f32" | "bf16", inputs: number, outputs: number): KernelCase["record"] =>
  ({ r, input, weight }) =>
    r.linear({ x: input(inputs), weight: weight(outputs, inputs, dtype) });

describe.each(["f32", "bf16"] as const)("linear in %s", (dtype) => {
  // Blocks of 8 outputs: one, several side by side, and a last one of 1, 7 or 8 rows.
  describe.each([1, 6, 28, 80, 257])("from %i inputs", (inputs) => {
    it.each([1, 7, 8, 9, 47, 72])("agrees with its oracle for %i outputs", async (outputs) => {
      for (const tokens of [1, 2, 3, 4, 5, 6, 13, 64]) {
        await expectAgreement({ tokens, record: product(dtype, inputs, outputs) });
      }
    });

    it.each([1, 15, 33, 72])("gives a row the same bits in every batch, for %i outputs", async (outputs) => {
      for (const backend of [wasm, plainWasm]) {
        const all = await rowsOfBatch(backend, 64, dtype, inputs, outputs);
        for (let tokens = 1; tokens <= 13; tokens++) {
          const batch = await rowsOfBatch(backend, tokens, dtype, inputs, outputs);
          expect(batch).toEqual(all.subarray((64 - tokens) * outputs));
        }
      }
    });
  });

  it.each([1, 2, 4, 13, 64])("gives the same bits with one thread and with two, over %i rows", async (tokens) => {
    for (const [inputs, outputs] of [
      [28, 1],
      [257, 15],
      [80, 73],
    ] as const) {
      const test = { tokens, record: product(dtype, inputs, outputs) };
      expect(await runCase(twoThreads, test)).toEqual(await runCase(wasm, test));
    }
  });
});

/** The products of the last `tokens` of 64 rows: a row is elsewhere in the tiles of every batch. */
function rowsOfBatch(
  backend: typeof wasm,
  tokens: number,
  dtype: "f32" | "bf16",
  inputs: number,
  outputs: number,
): Promise<Float32Array> {
  return runCase(backend, {
    tokens: 64,
    outputs: tokens,
    record: ({ r, input, weight, table }) => {
      const x = input(inputs);
      const w = weight(outputs, inputs, dtype);
      const rows = table(
        ids("rows", "outputs"),
        Array.from({ length: tokens }, (_, index) => 64 - tokens + index),
      );
      return r.linear({ x: r.pick({ x, rows }), weight: w });
    },
  });
}

it.each(["f32", "bf16", "q8", "q4"] as const)("gives a row the same bits alone and in a batch in %s", async (dtype) => {
  const record: KernelCase["record"] = ({ r, input, weight }) =>
    r.linear({ x: input(92), weight: weight(13, 92, dtype) });
  const many = await runCase(wasm, { tokens: 7, record });
  const last = await runCase(wasm, {
    tokens: 7,
    record: (make) => {
      const x = make.input(92);
      const w = make.weight(13, 92, dtype);
      const rows = make.table(ids("rows", "outputs"), [6]);
      return make.r.linear({ x: make.r.pick({ x, rows }), weight: w });
    },
    outputs: 1,
  });
  expect([...last]).toEqual([...many.subarray(6 * 13)]);
});

describe.each([
  ["relaxed", wasm],
  ["plain", plainWasm],
  ["relaxed, with two threads", twoThreads],
  ["plain, with two threads", twoPlainThreads],
])("weights that are trained, on the %s build", (_, backend) => {
  it.each([1, 6, 28, 93, 257, 515])("give the bits that they gave in blocks, from %i inputs", async (inputs) => {
    const machine = await backend.open();
    const random = createRandom(2);
    const limits = { tokens: 64, outputs: 1, positions: 64 };
    const bytesOf = (count: number): Uint8Array<ArrayBuffer> =>
      new Uint8Array(Float32Array.from({ length: count }, () => random.normal()).buffer);
    for (const outputs of [1, 3, 8, 15, 73, 130]) {
      const forward = createRecorder(limits);
      const [x, weight] = [input("x", inputs), matrix("w", outputs, inputs)];
      const { program, y } = forward.finish({ y: forward.linear({ x, weight }) });
      const prepared = await machine.prepare(program);
      await machine.upload(weight, 0, outputs, "F32", bytesOf(outputs * inputs));
      const values = bytesOf(64 * inputs);
      const products = async (): Promise<Uint8Array[]> => {
        const results: Uint8Array[] = [];
        for (const tokens of [1, 2, 5, 6, 13, 64]) {
          const given = [{ tensor: x, bytes: values.slice(0, tokens * inputs * 4) }];
          const output = { tensor: y, length: tokens * outputs * 4 };
          results.push(await prepared.run({ tokens, position: 0, outputs: 0 }, { inputs: given, output }));
        }
        return results;
      };
      const inBlocks = await products();
      const training = createRecorder(limits);
      training.linearInput({ dy: input("dy", outputs), weight });
      await machine.prepare({ limits, operations: training.operations });
      expect(await products()).toEqual(inBlocks);
      expect(Math.max(...inBlocks[0]!)).toBeGreaterThan(0);
    }
    await machine.dispose();
  });
});
