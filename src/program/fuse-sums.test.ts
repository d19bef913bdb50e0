import { describe, expect, it } from "vitest";
import { expectClose, plainWasm, reference, wasm } from "../../test/support/kernel-agreement.ts";
import type { Backend } from "../backends/backend.ts";
import type { Operation } from "../kernels/operation.ts";
import { createRandom } from "../random.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { fuseSums } from "./fuse-sums.ts";
import { cache, createRecorder, input, type Recorder, weight } from "./recorder.ts";

const limits = { tokens: 4, outputs: 4, positions: 4 };
const x = input("x", 3);
const w = weight("w", 3, 3);

function record(body: (r: Recorder) => Tensor): readonly Operation[] {
  const r = createRecorder(limits);
  return r.finish({ y: body(r) }).program.operations;
}

function fused(operations: readonly Operation[]): readonly Operation[] {
  return fuseSums({ limits, operations });
}

const namesOf = (operations: readonly Operation[]): string[] => operations.map(({ op }) => op.name);

it("makes a sum with the product before it one operation, which gives the sum", () => {
  const operations = record((r) => r.add({ a: x, b: r.linear({ x, weight: w }) }));
  const [product, sum] = operations;
  expect(fused(operations)).toEqual([{ ...product, operands: { x, weight: w, plus: x, y: sum!.operands["y"] } }]);
});

describe("leaves a sum as it is", () => {
  it.each<[string, (r: Recorder) => Tensor]>([
    ["where the product comes first", (r) => r.add({ a: r.linear({ x, weight: w }), b: x })],
    [
      "where the product is added to itself",
      (r) => {
        const y = r.linear({ x, weight: w });
        return r.add({ a: y, b: y });
      },
    ],
    [
      "where the product is read once more",
      (r) => {
        const y = r.linear({ x, weight: w });
        return r.swiglu({ gate: r.add({ a: x, b: y }), up: y });
      },
    ],
    [
      "where something stands between",
      (r) => {
        const y = r.linear({ x, weight: w });
        return r.add({ a: r.relu({ x }), b: y });
      },
    ],
    ["where the product is one of a sum already", (r) => r.add({ a: x, b: r.linear({ x, weight: w, plus: x }) })],
    ["of no product", (r) => r.add({ a: x, b: r.relu({ x }) })],
    [
      "in a program over a cache",
      (r) => {
        const keys = r.store({ cache: cache("keys", 4, 3), x });
        const seen = r.attention({ q: x, keys, values: keys, headSize: 3 });
        return r.add({ a: seen, b: r.linear({ x, weight: w }) });
      },
    ],
  ])("%s", (_, body) => {
    const operations = record(body);
    expect(namesOf(operations)).toContain("add");
    expect(fused(operations)).toEqual(operations);
  });
});

it("fuses each of two sums in a row, and only the last of two products in a sum", () => {
  const operations = record((r) => {
    const first = r.add({ a: x, b: r.linear({ x, weight: w }) });
    const second = r.add({ a: first, b: r.linear({ x: first, weight: w }) });
    return r.add({ a: r.linear({ x: second, weight: w }), b: r.linear({ x: first, weight: w }) });
  });
  expect(namesOf(operations)).toEqual(["linear", "add", "linear", "add", "linear", "linear", "add"]);
  expect(namesOf(fused(operations))).toEqual(["linear", "linear", "linear", "linear"]);
});

/** The sums of x and its product, made as `body` says. */
async function valuesOf(backend: Backend, body: (r: Recorder) => Tensor): Promise<Float32Array> {
  const r = createRecorder(limits);
  const { program, y } = r.finish({ y: body(r) });
  const random = createRandom(3);
  const bytes = (): Uint8Array<ArrayBuffer> =>
    new Uint8Array(Float32Array.from({ length: 12 }, () => random.normal()).buffer);
  const machine = await backend.open();
  const prepared = await machine.prepare(program);
  await machine.upload(w, 0, 3, "F32", bytes().slice(0, 36));
  const inputs = [{ tensor: x, bytes: bytes() }];
  const result = await prepared.run(
    { tokens: 4, position: 0, outputs: 0 },
    { inputs, output: { tensor: y, length: 48 } },
  );
  await machine.dispose();
  return new Float32Array(result.slice().buffer);
}

it.each([
  ["reference", reference],
  ["relaxed", wasm],
  ["plain", plainWasm],
])("one operation gives what two give, on the %s backend", async (_, backend) => {
  const one = await valuesOf(backend, (r) => r.add({ a: x, b: r.linear({ x, weight: w }) }));
  const two = await valuesOf(backend, (r) => r.add({ a: r.linear({ x, weight: w }), b: x }));
  expectClose(one, two, 1e-6, "sums");
});
