/** The reference backend: carries out a program by calling the oracles, one operation after the other, in this thread. */
import { BackendError, invariant } from "../errors.ts";
import { attention } from "../kernels/attention/attention.reference.ts";
import { adamw, clip } from "../kernels/adamw/adamw.reference.ts";
import { crossEntropyRows } from "../kernels/cross-entropy/cross-entropy.reference.ts";
import { add, relu, swiglu } from "../kernels/elementwise/elementwise.reference.ts";
import { reluBack, swigluBack } from "../kernels/elementwise/elementwise-gradient.reference.ts";
import { embedBack } from "../kernels/embed/embed-gradient.reference.ts";
import { logProbability } from "../kernels/log-probability/log-probability.reference.ts";
import { linear } from "../kernels/linear/linear.reference.ts";
import { muon } from "../kernels/muon/muon.reference.ts";
import { quantize } from "../kernels/quantize/quantize.reference.ts";
import { rmsnorm } from "../kernels/rmsnorm/rmsnorm.reference.ts";
import { matmulInput, matmulWeight } from "../kernels/matmul/matmul.reference.ts";
import { gainBack, rmsnormBack } from "../kernels/rmsnorm/rmsnorm-gradient.reference.ts";
import { rope } from "../kernels/rope/rope.reference.ts";
import { selfAttention, selfAttentionBack } from "../kernels/self-attention/self-attention.reference.ts";
import { classOf } from "../program/memory-plan.ts";
import { type Operation, optimizerSettings, SQUARES_CHUNK, type Tensor } from "../program/operation.ts";
import { maxRows, type Program, type RunNumbers, tensorsOf } from "../program/program.ts";
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
  const bytes = { weights: 0, constants: 0, cache: 0, gradients: 0, moments: 0, activations: 0 };
  for (const tensor of tensorsOf(program)) {
    const length = maxRows(tensor, limits) * tensor.cols;
    memory.set(tensor, tensor.dtype === "i32" ? new Int32Array(length) : new Float32Array(length));
    bytes[tensor.kind === "activation" ? "activations" : classOf[tensor.kind]] += length * 4;
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

  function ids(tensor: Tensor): Int32Array {
    const array = memory.get(tensor);
    invariant(array instanceof Int32Array, `${tensor.name} holds no ids`);
    return array;
  }

  function carryOut(operation: Operation, { tokens, position, outputs, length = tokens }: RunNumbers): void {
    const T = operation.out.rows === "outputs" ? outputs : tokens;
    const y = f32(operation.out);
    switch (operation.op) {
      case "embed": {
        const C = operation.out.cols;
        const table = f32(operation.table);
        const rows = ids(operation.tokens);
        for (let t = 0; t < T; t++) y.set(table.subarray(rows[t]! * C, (rows[t]! + 1) * C), t * C);
        return;
      }
      case "rmsnorm":
        return rmsnorm(y, f32(operation.x), f32(operation.gain), T, operation.out.cols, operation.eps);
      case "quantize":
        return quantize(y, f32(operation.x), T, operation.out.cols);
      case "linear":
        return linear(y, f32(operation.x), f32(operation.weight), T, operation.weight.cols, operation.out.cols);
      case "rope": {
        const { x, angles, isInverse, places } = operation;
        const at = places && ids(places);
        return rope(y, f32(x), f32(angles), T, x.cols, angles.cols, position, length, isInverse, at);
      }
      case "store":
        y.set(f32(operation.x).subarray(0, tokens * operation.out.cols), position * operation.out.cols);
        return;
      case "attention": {
        const { q, keys, values, headSize: D, places } = operation;
        const at = places && ids(places);
        return attention(y, f32(q), f32(keys), f32(values), T, q.cols / D, keys.cols / D, D, position, at);
      }
      case "swiglu":
        return swiglu(y, f32(operation.gate), f32(operation.up), T * operation.out.cols);
      case "relu":
        return relu(y, f32(operation.x), T * operation.out.cols);
      case "add":
        return add(y, f32(operation.x), f32(operation.y), T * operation.out.cols);
      case "pick": {
        const C = operation.out.cols;
        const rows = ids(operation.rows);
        for (let n = 0; n < T; n++) y.set(f32(operation.x).subarray(rows[n]! * C, (rows[n]! + 1) * C), n * C);
        return;
      }
      case "logProbability":
        return logProbability(y, f32(operation.logits), ids(operation.targets), T, operation.logits.cols);
      case "matmul": {
        const { x, weight, plus } = operation;
        return linear(y, f32(x), f32(weight), T, weight.cols, operation.out.cols, plus && f32(plus));
      }
      case "matmulInput": {
        const { dy, weight, plus } = operation;
        return matmulInput(y, f32(dy), f32(weight), plus && f32(plus), T, weight.cols, dy.cols);
      }
      case "matmulWeight":
        return matmulWeight(y, f32(operation.dy), f32(operation.x), tokens, operation.x.cols, operation.dy.cols);
      case "selfAttention": {
        const { lse, q, keys, values } = operation;
        return selfAttention(y, f32(lse), f32(q), f32(keys), f32(values), attentionShape(operation, tokens, length));
      }
      case "selfAttentionBack": {
        const { dKeys, dValues, dy, y: result, lse, q, keys, values } = operation;
        const [dk, dv, d, o, l] = [f32(dKeys), f32(dValues), f32(dy), f32(result), f32(lse)];
        const shape = attentionShape(operation, tokens, length);
        return selfAttentionBack(y, dk, dv, d, o, l, f32(q), f32(keys), f32(values), shape);
      }
      case "rmsnormBack": {
        const { scale, dy, x, gain, plus, eps } = operation;
        return rmsnormBack(y, f32(scale), f32(dy), f32(x), f32(gain), plus && f32(plus), T, x.cols, eps);
      }
      case "gainBack":
        return gainBack(y, f32(operation.dy), f32(operation.x), f32(operation.scale), tokens, operation.x.cols);
      case "swigluBack": {
        const { dUp, dy, gate, up } = operation;
        return swigluBack(y, f32(dUp), f32(dy), f32(gate), f32(up), T * gate.cols);
      }
      case "reluBack":
        return reluBack(y, f32(operation.dy), f32(operation.x), T * operation.x.cols);
      case "embedBack":
        return embedBack(y, ids(operation.tokens), f32(operation.dy), tokens, operation.dy.cols);
      case "crossEntropy":
      case "crossEntropyBack":
        return crossEntropy(operation, tokens);
      case "squares": {
        const gradient = f32(operation.gradient);
        for (let start = 0; start < gradient.length; start += SQUARES_CHUNK) {
          const chunk = gradient.subarray(start, start + SQUARES_CHUNK);
          y[operation.at + start / SQUARES_CHUNK] = chunk.reduce((sum, value) => sum + value * value, 0);
        }
        return;
      }
      case "clip":
        return clip(y, f32(operation.squares), f32(operation.settings)[optimizerSettings.clip]!);
      case "adamw": {
        const { gradient, mean, square, norm, settings, decays } = operation;
        const [total, factor] = f32(norm);
        if (!Number.isFinite(total)) return;
        const values = f32(settings);
        const setting = (name: keyof typeof optimizerSettings): number => values[optimizerSettings[name]]!;
        return adamw(y, f32(gradient), f32(mean), f32(square), factor!, {
          keep: decays ? setting("keep") : 1,
          beta1: setting("beta1"),
          beta2: setting("beta2"),
          eps: setting("eps"),
          stepSize: setting("stepSize"),
          correction: setting("correction"),
        });
      }
      case "muon": {
        const { out, gradient, mean, norm, settings } = operation;
        const [total, factor] = f32(norm);
        if (!Number.isFinite(total)) return;
        const values = f32(settings);
        return muon(y, f32(gradient), f32(mean), out.rows as number, out.cols, factor!, {
          keep: values[optimizerSettings.keep]!,
          momentum: values[optimizerSettings.momentum]!,
          learningRate: values[optimizerSettings.learningRate]!,
        });
      }
      case "clear":
        y.fill(0);
        return;
    }
  }

  /** All logits at once, in f64: what the chunks of the kernels should add up to. */
  function crossEntropy(
    operation: Extract<Operation, { op: "crossEntropy" | "crossEntropyBack" }>,
    tokens: number,
  ): void {
    const { out, x, weight, targets } = operation;
    const [C, V] = [x.cols, weight.rows as number];
    const logits = new Float64Array(tokens * V);
    linear(logits, f32(x), f32(weight), tokens, C, V);
    const scale = operation.op === "crossEntropyBack" ? f32(operation.scale)[0]! : undefined;
    crossEntropyRows(f32(out), logits, ids(targets), scale, tokens, V);
    if (operation.op === "crossEntropy") return;
    matmulInput(f32(operation.dx), logits, f32(weight), undefined, tokens, C, V);
    matmulWeight(f32(operation.dWeight), logits, f32(x), tokens, C, V);
  }

  return {
    device: "reference",
    description: "reference (f64 sums, 1 thread)",
    threads: 1,
    memory: { ...bytes, program: 0, total: Object.values(bytes).reduce((sum, count) => sum + count, 0) },
    async upload(tensor, rowStart, rowCount, encoding, source) {
      const { dtype, cols } = tensor;
      invariant(dtype !== "i32" && dtype !== "a16", `${tensor.name} is no weight`);
      // Through the packed layout and back, so that a quantized weight has the values that the kernels see.
      const packed = new Uint8Array(packedBytes(dtype, rowCount, cols));
      packRows(dtype, encoding, source, { rows: rowCount, cols, start: 0, count: rowCount }, packed);
      unpackRows(dtype, packed, rowCount, cols, f32(tensor).subarray(rowStart * cols, (rowStart + rowCount) * cols));
      return source;
    },
    download: async (tensor) => f32(tensor).slice(),
    write: async (tensor, offset, source) => rawBytes(tensor).set(source, offset),
    read: async (tensor, offset, length) => rawBytes(tensor).slice(offset, offset + length),
    async run(numbers, { inputs = [], output, part, signal } = {}) {
      for (const { tensor, bytes, offset = 0 } of inputs) rawBytes(tensor).set(bytes, offset);
      let rested = performance.now();
      const { start, end } = program.parts?.get(part ?? "") ?? { start: 0, end: program.operations.length };
      for (const operation of program.operations.slice(start, end)) {
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

function attentionShape(
  { q, keys, headSize }: { readonly q: Tensor; readonly keys: Tensor; readonly headSize: number },
  rows: number,
  length: number,
): Parameters<typeof selfAttention>[5] {
  return { rows, length, heads: q.cols / headSize, kvHeads: keys.cols / headSize, headSize };
}
