/** The reference backend: carries out a program by calling the oracles, one operation after the other, in this thread. */
import { BackendError, invariant } from "../errors.ts";
import { attention } from "../kernels/attention/attention.reference.ts";
import { add, relu, swiglu } from "../kernels/elementwise/elementwise.reference.ts";
import { linear } from "../kernels/linear/linear.reference.ts";
import { quantize } from "../kernels/quantize/quantize.reference.ts";
import { rmsnorm } from "../kernels/rmsnorm/rmsnorm.reference.ts";
import { rope } from "../kernels/rope/rope.reference.ts";
import { maxRows, type Operation, type Program, type RunNumbers, type Tensor, tensorsOf } from "../program/program.ts";
import { packedBytes } from "../tensor/dtype.ts";
import { packRows } from "../tensor/pack.ts";
import { unpackRows } from "../tensor/unpack.ts";
import type { Backend, Machine } from "./backend.ts";

const MAX_BLOCKED_MS = 20;

export function createReferenceBackend(): Backend {
  return { device: "reference", open: async (program) => createMachine(program) };
}

function createMachine(program: Program): Machine {
  const { limits } = program;
  const memory = new Map<Tensor, Float32Array | Int32Array>();
  const bytes = { weights: 0, constants: 0, cache: 0, activations: 0 };
  const classOf = { weight: "weights", constant: "constants", cache: "cache" } as const;
  for (const tensor of tensorsOf(program)) {
    const length = maxRows(tensor, limits) * tensor.cols;
    memory.set(tensor, tensor.dtype === "i32" ? new Int32Array(length) : new Float32Array(length));
    const kind = tensor.kind in classOf ? classOf[tensor.kind as keyof typeof classOf] : "activations";
    bytes[kind] += length * 4;
    if (tensor.values) f32(tensor).set(tensor.values);
  }

  function f32(tensor: Tensor): Float32Array {
    const array = memory.get(tensor);
    invariant(array instanceof Float32Array, `${tensor.name} holds no floats`);
    return array;
  }

  function rawBytes(tensor: Tensor): Uint8Array {
    const array = memory.get(tensor);
    if (!array) throw new BackendError("reference: the model has been disposed of. Load it again.");
    return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  }

  function carryOut(operation: Operation, { tokens, position, outputs }: RunNumbers): void {
    const T = operation.out.rows === "outputs" ? outputs : tokens;
    const y = f32(operation.out);
    switch (operation.op) {
      case "embed": {
        const C = operation.out.cols;
        const table = f32(operation.table);
        const ids = memory.get(operation.tokens)!;
        for (let t = 0; t < T; t++) y.set(table.subarray(ids[t]! * C, (ids[t]! + 1) * C), t * C);
        return;
      }
      case "rmsnorm":
        return rmsnorm(y, f32(operation.x), f32(operation.gain), T, operation.out.cols, operation.eps);
      case "quantize":
        return quantize(y, f32(operation.x), T, operation.out.cols);
      case "linear":
        return linear(y, f32(operation.x), f32(operation.weight), T, operation.weight.cols, operation.out.cols);
      case "rope":
        return rope(y, f32(operation.x), f32(operation.angles), T, operation.out.cols, operation.angles.cols, position);
      case "store":
        y.set(f32(operation.x).subarray(0, tokens * operation.out.cols), position * operation.out.cols);
        return;
      case "attention": {
        const { q, keys, values, headSize: D } = operation;
        return attention(y, f32(q), f32(keys), f32(values), T, q.cols / D, keys.cols / D, D, position);
      }
      case "swiglu":
        return swiglu(y, f32(operation.gate), f32(operation.up), T * operation.out.cols);
      case "relu":
        return relu(y, f32(operation.x), T * operation.out.cols);
      case "add":
        return add(y, f32(operation.x), f32(operation.y), T * operation.out.cols);
      case "tail": {
        const C = operation.out.cols;
        y.set(f32(operation.x).subarray((tokens - outputs) * C, tokens * C));
        return;
      }
    }
  }

  return {
    device: "reference",
    description: "reference (f64 sums, 1 thread)",
    threads: 1,
    memory: { ...bytes, program: 0, total: bytes.weights + bytes.constants + bytes.cache + bytes.activations },
    async upload(tensor, rowStart, rowCount, encoding, source) {
      const { dtype, cols } = tensor;
      invariant(dtype !== "i32" && dtype !== "a16", `${tensor.name} is no weight`);
      // Through the packed layout and back, so that a quantized weight has the values that the kernels see.
      const packed = new Uint8Array(packedBytes(dtype, rowCount, cols));
      packRows(dtype, encoding, source, { rows: rowCount, cols, start: 0, count: rowCount }, packed);
      unpackRows(dtype, packed, rowCount, cols, f32(tensor).subarray(rowStart * cols, (rowStart + rowCount) * cols));
    },
    write: async (tensor, offset, source) => rawBytes(tensor).set(source, offset),
    read: async (tensor, offset, length) => rawBytes(tensor).slice(offset, offset + length),
    async run(numbers, { inputs = [], output, signal } = {}) {
      for (const { tensor, bytes } of inputs) rawBytes(tensor).set(bytes);
      let rested = performance.now();
      for (const operation of program.operations) {
        if (performance.now() - rested > MAX_BLOCKED_MS) {
          await new Promise((resume) => setTimeout(resume)); // timers, input and aborts get their turn
          rested = performance.now();
        }
        signal?.throwIfAborted();
        carryOut(operation, numbers);
      }
      return output ? rawBytes(output.tensor).slice(0, output.length) : new Uint8Array(0);
    },
    dispose: async () => memory.clear(),
  };
}
