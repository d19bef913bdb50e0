// @ts-check
/**
 * The matrix product alone, without a model: eight matrices of 4096 × 4096, more than a cache holds. One row
 * is bound by memory (GB/s of weights), 64 rows by arithmetic (10⁹ multiplications with addition a second).
 *
 *   npm run build && node bench/linear.mjs [threads] [dtype,…]
 */
import { availableParallelism } from "node:os";
import { createWasmBackend } from "../dist/backends/wasm/wasm.js";
import { nodeEdge } from "../dist/node.js";
import { createRecorder } from "../dist/program/recorder.js";
import { dtypes, packedBytes } from "../dist/tensor/dtype.js";

const threads = Number(process.argv[2] ?? 1);
const SIZE = 4096;
const MATRICES = 8;
const ROUNDS = 15;

const backend = createWasmBackend({ ...nodeEdge(), threads });
console.log(`${threads} of ${availableParallelism()} threads, best and median of ${ROUNDS}`);

const chosen = process.argv[3]?.split(",") ?? dtypes;
for (const dtype of dtypes.filter((name) => chosen.includes(name))) {
  for (const tokens of [1, 64]) {
    const r = createRecorder({ tokens, outputs: tokens, positions: tokens });
    const input = r.input("x", SIZE);
    const weights = Array.from({ length: MATRICES }, (_, i) => r.weight(`w${i}`, SIZE, SIZE, dtype));
    const { program } = r.finish(weights.reduce((x, weight) => r.linear(x, weight), input));
    const machine = await backend.open(program);
    const rows = new Float32Array(SIZE * 256).map((_, i) => Math.sin(i));
    for (const weight of weights) {
      for (let start = 0; start < SIZE; start += 256) {
        await machine.upload(weight, start, 256, "F32", new Uint8Array(rows.slice().buffer));
      }
    }
    await machine.write(input, 0, new Uint8Array(rows.slice(0, tokens * SIZE).buffer));
    /** @type {number[]} */
    const seconds = [];
    for (let round = 0; round < ROUNDS; round++) {
      const start = performance.now();
      await machine.run({ tokens, position: 0, outputs: tokens });
      seconds.push((performance.now() - start) / 1000);
    }
    seconds.sort((a, b) => a - b);
    const work = tokens === 1 ? packedBytes(dtype, SIZE, SIZE) * MATRICES : SIZE * SIZE * MATRICES * tokens;
    const rates = [seconds[0], seconds[ROUNDS >> 1]].map((time) => (work / (time ?? 1) / 1e9).toFixed(1));
    console.log(`${dtype}, ${tokens} row(s): ${rates.join(", ")} ${tokens === 1 ? "GB/s" : "10⁹ a second"}`);
    await machine.dispose();
  }
}
process.exit(0);
