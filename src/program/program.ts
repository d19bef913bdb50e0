/**
 * A program: a flat list of operations over tensors, recorded once by running the model function against a recorder,
 * then replayed by a backend any number of times (DESIGN, idea 2). Every operation makes a new tensor, so that the
 * backward pass can be derived from the list and the memory plan can see how long each tensor lives.
 *
 * Three run-time numbers vary between replays: `tokens` T (rows of most activations), `position` P (cache rows before
 * them) and `outputs` N (how many of the last rows reach the head). All else is fixed when recorded.
 */
import { ShapeError } from "../errors.ts";
import { type Dtype, GROUP, packedBytes } from "../tensor/dtype.ts";

/** A number of rows: fixed, or one of the run-time numbers. */
export type Extent = number | "tokens" | "outputs";

export type TensorKind =
  /** Learned; written once by the loader. */
  | "weight"
  /** Computed when recording, the same for every replay. */
  | "constant"
  /** Keys and values by position; survive from replay to replay. */
  | "cache"
  /** Written by the caller before a replay. */
  | "input"
  /** Read by the caller after a replay. */
  | "output"
  /** Lives between the operation that makes it and the last that reads it. */
  | "activation";

/** A matrix of `rows` × `cols`; identity is the object itself. */
export type Tensor = {
  readonly name: string;
  readonly kind: TensorKind;
  /** `i32`: token ids. `a16`: activations in groups of 32 with a scale each (kernels/quantize). */
  readonly dtype: Dtype | "i32" | "a16";
  readonly rows: Extent;
  readonly cols: number;
  /** Of a constant: its values, row by row. */
  readonly values?: Float32Array;
};

export type Operation =
  | { readonly op: "embed"; readonly out: Tensor; readonly tokens: Tensor; readonly table: Tensor }
  | { readonly op: "rmsnorm"; readonly out: Tensor; readonly x: Tensor; readonly gain: Tensor; readonly eps: number }
  | { readonly op: "quantize"; readonly out: Tensor; readonly x: Tensor }
  | { readonly op: "linear"; readonly out: Tensor; readonly x: Tensor; readonly weight: Tensor }
  | { readonly op: "rope"; readonly out: Tensor; readonly x: Tensor; readonly angles: Tensor }
  | { readonly op: "store"; readonly out: Tensor; readonly x: Tensor }
  | {
      readonly op: "attention";
      readonly out: Tensor;
      readonly q: Tensor;
      readonly keys: Tensor;
      readonly values: Tensor;
      readonly headSize: number;
    }
  | { readonly op: "swiglu"; readonly out: Tensor; readonly gate: Tensor; readonly up: Tensor }
  | { readonly op: "relu"; readonly out: Tensor; readonly x: Tensor }
  | { readonly op: "add"; readonly out: Tensor; readonly x: Tensor; readonly y: Tensor }
  | { readonly op: "tail"; readonly out: Tensor; readonly x: Tensor };

/** The most that the run-time numbers may reach; buffers are planned for these. */
export type Limits = {
  /** T of one replay. */
  readonly tokens: number;
  /** N of one replay; at most `tokens`. */
  readonly outputs: number;
  /** P + T: rows of a cache. */
  readonly positions: number;
};

/** The run-time numbers of one replay. */
export type RunNumbers = { readonly tokens: number; readonly position: number; readonly outputs: number };

export type Program = {
  readonly limits: Limits;
  readonly operations: readonly Operation[];
};

/** The tensors that an operation reads, in a fixed order. */
export function readsOf(operation: Operation): Tensor[] {
  switch (operation.op) {
    case "embed":
      return [operation.tokens, operation.table];
    case "rmsnorm":
      return [operation.x, operation.gain];
    case "linear":
      return [operation.x, operation.weight];
    case "rope":
      return [operation.x, operation.angles];
    case "attention":
      return [operation.q, operation.keys, operation.values];
    case "swiglu":
      return [operation.gate, operation.up];
    case "add":
      return [operation.x, operation.y];
    case "quantize":
    case "store":
    case "relu":
    case "tail":
      return [operation.x];
  }
}

/** Rows of a tensor at their largest. */
export function maxRows(tensor: Tensor, limits: Limits): number {
  return typeof tensor.rows === "number" ? tensor.rows : limits[tensor.rows];
}

/** Bytes of a tensor at its largest. */
export function tensorBytes(tensor: Tensor, limits: Limits): number {
  const rows = maxRows(tensor, limits);
  if (tensor.dtype === "i32") return rows * tensor.cols * 4;
  if (tensor.dtype === "a16") return rows * quantizedRowBytes(tensor.cols);
  return packedBytes(tensor.dtype, rows, tensor.cols);
}

/** Bytes of a quantized activation row: 16-bit values padded to whole groups, then a scale and a sum for each group. */
export function quantizedRowBytes(cols: number): number {
  return Math.ceil(cols / GROUP) * (GROUP * 2 + 8);
}

/** Every tensor of a program once, in order of first appearance. */
export function tensorsOf(program: Program): Tensor[] {
  return [...new Set(program.operations.flatMap((operation) => [...readsOf(operation), operation.out]))];
}

/** Writes the list. One recorder makes one program. */
export type Recorder = {
  readonly limits: Limits;
  weight(name: string, rows: number, cols: number, dtype: Dtype): Tensor;
  /** A matrix computed now and the same in every replay. */
  constant(name: string, values: Float32Array, cols: number): Tensor;
  /** (positions, cols) in f32. */
  cache(name: string, cols: number): Tensor;
  /** T token ids that the caller writes. */
  tokens(name: string): Tensor;
  /** An f32 matrix that the caller writes. */
  input(name: string, cols: number): Tensor;

  /** Rows of `table` (V, C) by token id → (T, C). */
  embed(tokens: Tensor, table: Tensor): Tensor;
  /** x / √(mean x² + eps) · gain, row by row. */
  rmsnorm(x: Tensor, gain: Tensor, eps: number): Tensor;
  /** x (T, K) · weightᵀ, weight (O, K) → (T, O). Quantized weights meet quantized activations. */
  linear(x: Tensor, weight: Tensor): Tensor;
  /** Rotates pairs (i, i + D/2) of each head by the angles of its position; `angles` (positions, D) = cos ‖ sin. */
  rope(x: Tensor, angles: Tensor): Tensor;
  /** Writes rows into a cache at P, P + 1, …; gives the cache. */
  store(x: Tensor, cache: Tensor): Tensor;
  /** Causal grouped-query attention of q (T, H·D) over keys and values (positions, G·D) → (T, H·D). */
  attention(q: Tensor, keys: Tensor, values: Tensor, headSize: number): Tensor;
  /** silu(gate) · up. */
  swiglu(gate: Tensor, up: Tensor): Tensor;
  relu(x: Tensor): Tensor;
  add(x: Tensor, y: Tensor): Tensor;
  /** The last N of T rows. */
  tail(x: Tensor): Tensor;

  /** Ends the recording; `output` stays readable after a replay. */
  finish(output: Tensor): { readonly program: Program; readonly output: Tensor };
};

export function createRecorder(limits: Limits): Recorder {
  const operations: Operation[] = [];
  const quantized = new Map<Tensor, Tensor>();

  function activation(name: string, rows: Extent, cols: number, dtype: Tensor["dtype"] = "f32"): Tensor {
    return { name: `${name}.${operations.length}`, kind: "activation", dtype, rows, cols };
  }

  function push(operation: Operation): Tensor {
    operations.push(operation);
    return operation.out;
  }

  /** Activations to 16 bits in groups of 32; made once for all matrices that read the same x. */
  function quantize(x: Tensor): Tensor {
    const known = quantized.get(x);
    if (known) return known;
    const out = push({ op: "quantize", out: activation("quantize", x.rows, x.cols, "a16"), x });
    quantized.set(x, out);
    return out;
  }

  return {
    limits,
    weight: (name, rows, cols, dtype) => ({ name, kind: "weight", dtype, rows, cols }),
    constant: (name, values, cols) => ({
      name,
      kind: "constant",
      dtype: "f32",
      rows: values.length / cols,
      cols,
      values,
    }),
    cache: (name, cols) => ({ name, kind: "cache", dtype: "f32", rows: limits.positions, cols }),
    tokens: (name) => ({ name, kind: "input", dtype: "i32", rows: "tokens", cols: 1 }),
    input: (name, cols) => ({ name, kind: "input", dtype: "f32", rows: "tokens", cols }),

    embed: (tokens, table) => push({ op: "embed", out: activation("embed", tokens.rows, table.cols), tokens, table }),
    rmsnorm(x, gain, eps) {
      mustMatch("rmsnorm", "gain must be as wide as x", x, gain, x.cols === gain.cols);
      return push({ op: "rmsnorm", out: activation("rmsnorm", x.rows, x.cols), x, gain, eps });
    },
    linear(x, weight) {
      mustMatch("linear", "inner sizes must match", x, weight, x.cols === weight.cols);
      const isQuantized = weight.dtype === "q8" || weight.dtype === "q4";
      const operand = isQuantized ? quantize(x) : x;
      return push({ op: "linear", out: activation("linear", x.rows, fixedRows(weight)), x: operand, weight });
    },
    rope(x, angles) {
      mustMatch("rope", "heads must divide x", x, angles, x.cols % angles.cols === 0);
      return push({ op: "rope", out: activation("rope", x.rows, x.cols), x, angles });
    },
    store(x, cache) {
      mustMatch("store", "the cache must be as wide as x", x, cache, x.cols === cache.cols);
      return push({ op: "store", out: cache, x });
    },
    attention(q, keys, values, headSize) {
      const fits = q.cols % keys.cols === 0 && keys.cols === values.cols && keys.cols % headSize === 0;
      mustMatch("attention", "key/value heads must divide query heads", q, keys, fits);
      return push({ op: "attention", out: activation("attention", q.rows, q.cols), q, keys, values, headSize });
    },
    swiglu(gate, up) {
      mustMatch("swiglu", "shapes must match", gate, up, gate.cols === up.cols);
      return push({ op: "swiglu", out: activation("swiglu", gate.rows, gate.cols), gate, up });
    },
    relu: (x) => push({ op: "relu", out: activation("relu", x.rows, x.cols), x }),
    add(x, y) {
      mustMatch("add", "shapes must match", x, y, x.cols === y.cols && x.rows === y.rows);
      return push({ op: "add", out: activation("add", x.rows, x.cols), x, y });
    },
    tail: (x) => push({ op: "tail", out: activation("tail", "outputs", x.cols), x }),

    finish(output) {
      const kept: Tensor = { ...output, name: "output", kind: "output" };
      const renamed = operations.map((operation) =>
        operation.out === output ? ({ ...operation, out: kept } as Operation) : operation,
      );
      return { program: { limits, operations: renamed }, output: kept };
    },
  };
}

function fixedRows(weight: Tensor): number {
  if (typeof weight.rows === "number") return weight.rows;
  throw new ShapeError(`linear: a weight needs a fixed number of rows, ${weight.name} has "${weight.rows}".`);
}

function mustMatch(op: string, rule: string, a: Tensor, b: Tensor, holds: boolean): void {
  if (holds) return;
  throw new ShapeError(
    `${op}: ${rule}, got ${a.name} (${a.rows}, ${a.cols}) and ${b.name} (${b.rows}, ${b.cols}). Is the checkpoint from another preset?`,
  );
}
