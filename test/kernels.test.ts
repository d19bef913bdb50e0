/**
 * Every operation on every backend: the WebAssembly kernels against the reference, on shapes that break kernels (one
 * row, widths off the vector size, one key/value head) and with planted outliers.
 */
import { describe, expect, it } from "vitest";
import type { Backend, Machine } from "../src/backends/backend.ts";
import { createReferenceBackend } from "../src/backends/reference.ts";
import { startHost, type Host, type Reply } from "../src/backends/wasm/host.ts";
import { createWasmBackend, type WorkerPort } from "../src/backends/wasm/wasm.ts";
import { createRecorder, type Recorder, type Tensor } from "../src/program/program.ts";
import { createRandom } from "../src/random.ts";
import type { Dtype } from "../src/tensor/dtype.ts";

/** Largest error relative to the largest value: f32 sums of up to 576 terms, outliers among them, against f64. */
const TOLERANCE = 5e-6;

/** Runs the worker's code in this thread: the protocol without the thread. */
function inlineWorker(): WorkerPort {
  let host: Host | undefined;
  let listener: (reply: Reply) => void = () => {};
  return {
    post(message) {
      if ("kind" in (message as object)) host = startHost(message as Parameters<typeof startHost>[0]);
      else {
        const { id, request } = message as { id: number; request: Parameters<Host["answer"]>[1] };
        const reply = host!.answer(id, request);
        queueMicrotask(() => listener(reply));
      }
    },
    onMessage: (to) => void (listener = to),
    onError: () => {},
    terminate: async () => {},
  };
}

const reference = createReferenceBackend();
const wasm = createWasmBackend({ spawn: inlineWorker, threads: 1, canShare: false });

type Case = {
  readonly tokens: number;
  readonly position?: number;
  readonly outputs?: number;
  /** Records the operation over inputs made by `input` and weights made by `weight`; gives the result. */
  readonly record: (make: {
    readonly r: Recorder;
    readonly input: (cols: number) => Tensor;
    readonly weight: (rows: number, cols: number, dtype?: Dtype) => Tensor;
    readonly ids: (vocabulary: number) => Tensor;
  }) => Tensor;
};

/** Records a case anew for `backend` with values from one seed, and runs it. */
async function runCase(
  backend: Backend,
  { tokens, position = 0, outputs = tokens, record }: Case,
): Promise<Float32Array> {
  const random = createRandom(7);
  const r = createRecorder({ tokens, outputs: Math.max(outputs, 1), positions: position + tokens });
  const fills: ((machine: Machine) => Promise<void>)[] = [];
  const values = (count: number): Float32Array => {
    const array = Float32Array.from({ length: count }, () => random.normal());
    array[Math.floor(count / 3)] = 40; // an outlier
    return array;
  };
  const bytes = (array: Float32Array | Int32Array): Uint8Array => new Uint8Array(array.buffer);
  const out = record({
    r,
    input(cols) {
      const tensor = r.input(`x${fills.length}`, cols);
      const data = values(tokens * cols);
      fills.push((machine) => machine.write(tensor, 0, bytes(data)));
      return tensor;
    },
    weight(rows, cols, dtype = "f32") {
      const tensor = r.weight(`w${fills.length}`, rows, cols, dtype);
      const data = values(rows * cols);
      fills.push((machine) => machine.upload(tensor, 0, rows, "F32", bytes(data)));
      return tensor;
    },
    ids(vocabulary) {
      const tensor = r.tokens("ids");
      const data = Int32Array.from({ length: tokens }, () => random.below(vocabulary));
      fills.push((machine) => machine.write(tensor, 0, bytes(data)));
      return tensor;
    },
  });
  const { program, output } = r.finish(out);
  const machine = await backend.open(program);
  for (const fill of fills) await fill(machine);
  // Earlier positions first, so that a cache has something to look back on.
  if (position > 0) await machine.run({ tokens: position, position: 0, outputs: 0 });
  await machine.run({ tokens, position, outputs });
  const rows = output.rows === "outputs" ? outputs : tokens;
  const result = await machine.read(output, 0, rows * output.cols * 4);
  await machine.dispose();
  return new Float32Array(result.buffer, result.byteOffset, rows * output.cols);
}

async function expectAgreement(test: Case, tolerance = TOLERANCE): Promise<void> {
  const expected = await runCase(reference, test);
  const actual = await runCase(wasm, test);
  const largest = expected.reduce((a, b) => Math.max(a, Math.abs(b)), 0);
  let worst = 0;
  expected.forEach((value, i) => (worst = Math.max(worst, Math.abs(value - actual[i]!))));
  expect(largest).toBeGreaterThan(0);
  expect(worst / largest).toBeLessThan(tolerance);
}

describe.each([1, 2, 5, 37])("with %i rows", (tokens) => {
  it.each([4, 7, 64, 92, 576])("rmsnorm agrees at width %i", (width) =>
    expectAgreement({ tokens, record: ({ r, input, weight }) => r.rmsnorm(input(width), weight(1, width), 1e-5) }),
  );

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
  ] as const)("linear agrees in %s from %i to %i", (dtype, inputs, outputs) =>
    expectAgreement({
      tokens,
      record: ({ r, input, weight }) => r.linear(input(inputs), weight(outputs, inputs, dtype)),
    }),
  );

  it.each(["f32", "bf16", "q8", "q4"] as const)("embed gives the table's own values in %s", (dtype) =>
    expectAgreement({ tokens, record: ({ r, ids, weight }) => r.embed(ids(19), weight(19, 44, dtype)) }, 1e-7),
  );

  it.each([4, 28, 64, 80])("rope agrees at head size %i", (headSize) =>
    expectAgreement({
      tokens,
      record({ r, input }) {
        const angles = Float32Array.from({ length: r.limits.positions * headSize }, (_, i) => Math.sin(i));
        return r.rope(input(3 * headSize), r.constant("angles", angles, headSize));
      },
    }),
  );

  it.each([
    [4, 4, 16],
    [9, 3, 64],
    [3, 1, 28],
    [2, 1, 80],
    [2, 2, 6],
  ])("attention agrees with %i heads, %i key/value heads of %i", (heads, kvHeads, headSize) =>
    expectAgreement({
      tokens,
      position: tokens === 1 ? 0 : 1,
      record({ r, input }) {
        const keys = r.store(input(kvHeads * headSize), r.cache("keys", kvHeads * headSize));
        const values = r.store(input(kvHeads * headSize), r.cache("values", kvHeads * headSize));
        return r.attention(input(heads * headSize), keys, values, headSize);
      },
    }),
  );

  it("swiglu, relu and add agree", () =>
    expectAgreement({
      tokens,
      record: ({ r, input }) => r.add(r.swiglu(input(93), input(93)), r.relu(input(93))),
    }));

  it("tail keeps the last rows", () =>
    expectAgreement({ tokens, outputs: 1, record: ({ r, input }) => r.tail(r.relu(input(10))) }, 1e-9));
});

it("gives a row the same bits alone and in a batch", async () => {
  for (const dtype of ["f32", "bf16", "q8", "q4"] as const) {
    const record: Case["record"] = ({ r, input, weight }) => r.linear(input(92), weight(13, 92, dtype));
    const many = await runCase(wasm, { tokens: 7, record: (make) => make.r.tail(record(make)), outputs: 7 });
    const last = await runCase(wasm, {
      tokens: 7,
      record: (make) => {
        const x = make.input(92);
        const w = make.weight(13, 92, dtype);
        return make.r.linear(make.r.tail(x), w);
      },
      outputs: 1,
    });
    expect([...last]).toEqual([...many.subarray(6 * 13)]);
  }
});

it("refuses a program that a 32-bit memory cannot hold, before it takes any", async () => {
  const r = createRecorder({ tokens: 1, outputs: 1, positions: 1 });
  const { program } = r.finish(r.linear(r.input("x", 40_000), r.weight("w", 40_000, 40_000, "f32")));
  await expect(wasm.open(program)).rejects.toThrowErrorMatchingInlineSnapshot(
    `[BackendError: wasm: the model needs 6.0 GiB, a 32-bit memory holds 4.0 GiB. Use a smaller dtype ("q8" or "q4") or contextLength.]`,
  );
});
