/**
 * What the tests beside the kernels share: an operation is recorded alone, run on the WebAssembly backend and on the
 * reference, and both must agree. Inputs are normal numbers from one seed with an outlier planted in each.
 */
import { availableParallelism } from "node:os";
import { expect } from "vitest";
// oxlint-disable-next-line import/no-unassigned-import -- it fails where there is no build
import "./require-build.ts";
import type { Backend, Machine } from "../../src/backends/backend.ts";
import { createReferenceBackend } from "../../src/backends/reference.ts";
import { startHost, type Host, type Reply } from "../../src/backends/wasm/host.ts";
import { createWasmBackend, type WorkerPort } from "../../src/backends/wasm/wasm.ts";
import { allowRelaxedSimd, spawnThread } from "../../src/edge/node.ts";
import {
  createRecorder,
  ids as idsInput,
  input as floatInput,
  type Recorder,
  weight as matrix,
} from "../../src/program/recorder.ts";
import type { Floats } from "../../src/kernels/floats.ts";
import { createRandom } from "../../src/random.ts";
import type { Dtype } from "../../src/tensor/dtype.ts";
import type { Program } from "../../src/program/program.ts";
import { rowsIn, type RunNumbers, type Tensor } from "../../src/tensor/tensor.ts";

/** Largest error relative to the largest value: f32 sums of up to 576 terms, outliers among them, against f64. */
export const TOLERANCE = 5e-6;

/** Rows that break kernels: one, less than a tile, a tile and a rest, many. */
export const rowCounts = [1, 2, 5, 37];

export type KernelCase = {
  readonly tokens: number;
  readonly position?: number;
  readonly outputs?: number;
  /** Records the operation over inputs made by `input` and weights made by `weight`; gives the result. */
  readonly record: (make: {
    readonly r: Recorder;
    readonly input: (cols: number) => Tensor;
    /** Random rows, or the given ones. */
    readonly weight: (rows: number, cols: number, dtype?: Dtype, values?: Float32Array) => Tensor;
    readonly gain: (cols: number) => Tensor;
    readonly ids: (vocabulary: number) => Tensor;
    /** T rows with these values. */
    readonly filled: (cols: number, values: Float32Array) => Tensor;
    /** A tensor of whole numbers with these values. */
    readonly table: (tensor: Tensor, values: readonly number[]) => Tensor;
  }) => Tensor;
};

export const reference: Backend = createReferenceBackend();
export const wasm: Backend = createWasmBackend({ spawn: inlineWorker, threads: 1, canShare: false });
/** The same kernels without fused multiply-add. */
export const plainWasm: Backend = createWasmBackend({
  spawn: inlineWorker,
  threads: 1,
  canShare: false,
  relaxed: false,
});
/** Two threads of the built package, which share their memory. */
export const twoThreads: Backend = createThreads(2);
/** The same without fused multiply-add. */
export const twoPlainThreads: Backend = createThreads(2, false);
/** More threads than cores, so that some always wait for theirs. */
export const crowdedThreads: Backend = createThreads(availableParallelism() + 3);
allowRelaxedSimd();

/** A thread of the built package, which shares its memory with nobody. */
export const unsharedThread: Backend = createWasmBackend({ spawn: spawnBuilt, threads: 1, canShare: false });

function createThreads(threads: number, relaxed = true): Backend {
  return createWasmBackend({ spawn: spawnBuilt, threads, canShare: true, relaxed });
}

function spawnBuilt(): WorkerPort {
  return spawnThread(new URL("../../dist/backends/wasm/worker.node.js", import.meta.url));
}

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

export type OpenCase = {
  readonly program: Program;
  readonly numbers: RunNumbers;
  /** Earlier positions first, so that a cache has something to look back on. */
  readonly run: () => Promise<void>;
  /** The case itself, over whatever the cache holds. */
  readonly replay: () => Promise<void>;
  readonly read: () => Promise<Float32Array>;
  readonly dispose: () => Promise<void>;
};

/** Records a case anew for `backend` with values from one seed. */
export async function openCase(
  backend: Backend,
  { tokens, position = 0, outputs = tokens, record }: KernelCase,
): Promise<OpenCase> {
  const random = createRandom(7);
  const r = createRecorder({ tokens, outputs: Math.max(outputs, 1), positions: position + tokens });
  const fills: ((machine: Machine) => Promise<void>)[] = [];
  const randomValues = (count: number): Float32Array => {
    const array = Float32Array.from({ length: count }, () => random.normal());
    array[Math.floor(count / 3)] = 40; // an outlier
    return array;
  };
  const bytes = (array: Float32Array | Int32Array): Uint8Array => new Uint8Array(array.buffer);
  const out = record({
    r,
    input(cols) {
      const tensor = floatInput(`x${fills.length}`, cols);
      const data = randomValues(tokens * cols);
      fills.push((machine) => machine.write(tensor, 0, bytes(data)));
      return tensor;
    },
    weight(rows, cols, dtype = "f32", values = randomValues(rows * cols)) {
      const tensor = matrix(`w${fills.length}`, rows, cols, dtype);
      fills.push(async (machine) => {
        await machine.upload(tensor, 0, rows, "F32", new Uint8Array(bytes(values)));
      });
      return tensor;
    },
    gain(cols) {
      const tensor = matrix(`w${fills.length}`, 1, cols);
      const data = randomValues(cols);
      fills.push(async (machine) => void (await machine.upload(tensor, 0, 1, "F32", new Uint8Array(bytes(data)))));
      return tensor;
    },
    filled(cols, values) {
      const tensor = floatInput(`x${fills.length}`, cols);
      fills.push((machine) => machine.write(tensor, 0, bytes(values)));
      return tensor;
    },
    table(tensor, values) {
      fills.push((machine) => machine.write(tensor, 0, bytes(Int32Array.from(values))));
      return tensor;
    },
    ids(vocabulary) {
      const tensor = idsInput("ids", "tokens");
      const data = Int32Array.from({ length: tokens }, () => random.below(vocabulary));
      fills.push((machine) => machine.write(tensor, 0, bytes(data)));
      return tensor;
    },
  });
  const { program, output } = r.finish({ output: out });
  const machine = await backend.open();
  const { run } = await machine.prepare(program);
  for (const fill of fills) await fill(machine);
  const numbers = { tokens, position, outputs };
  return {
    program,
    numbers,
    async run() {
      if (position > 0) await run({ tokens: position, position: 0, outputs: 0 });
      await run(numbers);
    },
    replay: async () => void (await run(numbers)),
    async read() {
      const { buffer, byteOffset } = await machine.read(output, 0, rowsIn(output, numbers) * output.cols * 4);
      return new Float32Array(buffer, byteOffset, rowsIn(output, numbers) * output.cols);
    },
    dispose: () => machine.dispose(),
  };
}

/** What a case comes to on `backend`. */
export async function runCase(backend: Backend, test: KernelCase): Promise<Float32Array> {
  const { run, read, dispose } = await openCase(backend, test);
  await run();
  const result = await read();
  await dispose();
  return result;
}

/** The values of both builds of the WebAssembly kernels are the oracle's. */
export async function expectAgreement(test: KernelCase, tolerance: number = TOLERANCE): Promise<void> {
  const expected = await runCase(reference, test);
  expect(largestOf(expected), "an expectation of zeros would pass too easily").toBeGreaterThan(0);
  expectClose(await runCase(wasm, test), expected, tolerance, "relaxed build");
  expectClose(await runCase(plainWasm, test), expected, tolerance, "plain build");
}

/** Every error is ≤ `tolerance` × the largest value (1 if all are zero); else says how many are off, and shows five. */
export function expectClose(actual: Floats, expected: Floats, tolerance: number, what: string): void {
  const allowed = tolerance * (largestOf(expected) || 1);
  // Written so that NaN counts as off.
  const isOff = (i: number): boolean => !(Math.abs(expected[i]! - actual[i]!) <= allowed);
  const off = Array.from(expected.keys()).filter(isOff);
  const first = off.slice(0, 5).map((i) => `[${i}] ${actual[i]} for ${expected[i]}`);
  const message = `${what}: ${off.length} of ${expected.length} are off by more than ${allowed}: ${first.join(", ")}`;
  expect(off.length, message).toBe(0);
  expect(actual.length).toBe(expected.length);
}

export function largestOf(values: Floats): number {
  let largest = 0;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  return largest;
}
