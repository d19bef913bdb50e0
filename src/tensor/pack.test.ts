import { expect, it } from "vitest";
import { plainWasm, reference, twoThreads, wasm } from "../../test/support/kernel-agreement.ts";
import { createRecorder, input, weight } from "../program/recorder.ts";
import { packedBytes } from "./dtype.ts";
import { packRows } from "./pack.ts";
import { unpackRows } from "./unpack.ts";

it("interleaves eight rows and fills the last block with zeros", () => {
  const values = Float32Array.from({ length: 9 * 2 }, (_, i) => i + 1);
  const packed = new Uint8Array(packedBytes("f32", 9, 2));
  packRows("f32", "F32", new Uint8Array(values.buffer), { rows: 9, cols: 2, start: 0, count: 9 }, packed);
  const blocks = [
    1, 3, 5, 7, 9, 11, 13, 15, 2, 4, 6, 8, 10, 12, 14, 16, 17, 0, 0, 0, 0, 0, 0, 0, 18, 0, 0, 0, 0, 0, 0, 0,
  ];
  expect([...new Float32Array(packed.buffer)]).toEqual(blocks);
});

it.each(["f32", "bf16"] as const)("packs pieces of blocks in %s, and unpacks them to the same numbers", (dtype) => {
  for (const [rows, cols] of [
    [1, 6],
    [8, 1],
    [23, 5],
    [40, 33],
  ] as const) {
    const values = Float32Array.from({ length: rows * cols }, (_, i) => (i % 256) - 128); // exact in bf16
    const packed = new Uint8Array(packedBytes(dtype, rows, cols));
    for (let start = 0; start < rows; start += 16) {
      const count = Math.min(16, rows - start);
      const piece = new Uint8Array(values.slice(start * cols, (start + count) * cols).buffer);
      packRows(dtype, "F32", piece, { rows, cols, start, count }, packed);
    }
    const unpacked = new Float32Array(rows * cols);
    unpackRows(dtype, packed, rows, cols, unpacked);
    expect(unpacked).toEqual(values);
  }
});

it.each([
  ["the reference", reference],
  ["wasm", wasm],
  ["wasm without fused multiply-add", plainWasm],
  ["two threads", twoThreads],
] as const)("comes back from %s as it was uploaded, matrices and gains", async (_, backend) => {
  const r = createRecorder({ tokens: 1, outputs: 1, positions: 1 });
  const [matrix, gain] = [weight("matrix", 13, 7), weight("gain", 1, 7)];
  const x = r.rmsnorm({ x: input("x", 7), gain, eps: 1e-5 });
  const { program } = r.finish({ y: r.linear({ x, weight: matrix }) });
  const machine = await backend.open();
  await machine.prepare(program);
  for (const [tensor, rows] of [
    [matrix, 13],
    [gain, 1],
  ] as const) {
    const values = Float32Array.from({ length: rows * 7 }, (_, i) => Math.sin(i));
    await machine.upload(tensor, 0, rows, "F32", new Uint8Array(values.slice().buffer));
    expect(await machine.download(tensor)).toEqual(values);
  }
  await machine.dispose();
});
