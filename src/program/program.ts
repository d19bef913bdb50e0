/**
 * A program: a flat list of operations over tensors, recorded once by running the model function against a recorder,
 * then replayed by a backend any number of times (DESIGN, idea 2). Every operation makes new tensors, so that the
 * backward pass can be derived from the list (backward.ts) and the memory plan can see how long each tensor lives; only
 * gradients, moments and trained weights are added to or overwritten in place.
 *
 * Four run-time numbers vary between replays: `tokens` T (rows of most activations), `position` P (cache rows before
 * them), `outputs` N (how many of the last rows reach the head) and `length` (rows of one sequence when several are
 * trained on at once). All else is fixed when recorded.
 */
import { invariant, ShapeError } from "../errors.ts";
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
  /** Sums over replays, as large as its weight, until the optimizer clears it. */
  | "gradient"
  /** The optimizer's; survives from replay to replay. */
  | "moment"
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
  | {
      readonly op: "rope";
      readonly out: Tensor;
      readonly x: Tensor;
      readonly angles: Tensor;
      /** Turns back: the gradient of a rotation. */
      readonly isInverse: boolean;
    }
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
  | { readonly op: "tail"; readonly out: Tensor; readonly x: Tensor }
  | TrainingOperation;

/**
 * What only training needs. `plus` is added to the result: the sum of an activation's gradients as they come in.
 * A gradient (kind `gradient`) is added to in place.
 */
export type TrainingOperation =
  /** plus + x·wᵀ, f32. */
  | {
      readonly op: "matmul";
      readonly out: Tensor;
      readonly x: Tensor;
      readonly weight: Tensor;
      readonly plus: Tensor | undefined;
    }
  /** plus + dy·w. */
  | {
      readonly op: "matmulInput";
      readonly out: Tensor;
      readonly dy: Tensor;
      readonly weight: Tensor;
      readonly plus: Tensor | undefined;
    }
  /** out += dyᵀ·x. */
  | { readonly op: "matmulWeight"; readonly out: Tensor; readonly dy: Tensor; readonly x: Tensor }
  /** Attention within sequences of `length` rows; `lse` (T, H): each row's log Σ exp(score). */
  | {
      readonly op: "selfAttention";
      readonly out: Tensor;
      readonly lse: Tensor;
      readonly q: Tensor;
      readonly keys: Tensor;
      readonly values: Tensor;
      readonly headSize: number;
    }
  | {
      readonly op: "selfAttentionBack";
      readonly out: Tensor; // dq
      readonly dKeys: Tensor;
      readonly dValues: Tensor;
      readonly dy: Tensor;
      readonly y: Tensor;
      readonly lse: Tensor;
      readonly q: Tensor;
      readonly keys: Tensor;
      readonly values: Tensor;
      readonly headSize: number;
    }
  /** dx; `scale` (T, 1) is 1 / √(mean x² + eps), for the gain's gradient. */
  | {
      readonly op: "rmsnormBack";
      readonly out: Tensor;
      readonly scale: Tensor;
      readonly dy: Tensor;
      readonly x: Tensor;
      readonly gain: Tensor;
      readonly plus: Tensor | undefined;
      readonly eps: number;
    }
  /** out += Σ_t dy·x·scale. */
  | { readonly op: "gainBack"; readonly out: Tensor; readonly dy: Tensor; readonly x: Tensor; readonly scale: Tensor }
  | {
      readonly op: "swigluBack";
      readonly out: Tensor; // dGate
      readonly dUp: Tensor;
      readonly dy: Tensor;
      readonly gate: Tensor;
      readonly up: Tensor;
    }
  | { readonly op: "reluBack"; readonly out: Tensor; readonly dy: Tensor; readonly x: Tensor }
  /** out[token] += dy. */
  | { readonly op: "embedBack"; readonly out: Tensor; readonly tokens: Tensor; readonly dy: Tensor }
  /** −log softmax(x·wᵀ)[target] of each row, 0 where the target is negative; `logits` holds a chunk of rows at a time. */
  | {
      readonly op: "crossEntropy";
      readonly out: Tensor;
      readonly logits: Tensor;
      readonly x: Tensor;
      readonly weight: Tensor;
      readonly targets: Tensor;
    }
  /** The same, and the gradients of `scale` · Σ losses: `dx`, and `dWeight` added to. No second pass over the logits. */
  | {
      readonly op: "crossEntropyBack";
      readonly out: Tensor;
      readonly logits: Tensor;
      readonly x: Tensor;
      readonly weight: Tensor;
      readonly targets: Tensor;
      readonly scale: Tensor;
      readonly dx: Tensor;
      readonly dWeight: Tensor;
    }
  /** Chunks of Σ gradient², from number `at` on. */
  | { readonly op: "squares"; readonly out: Tensor; readonly gradient: Tensor; readonly at: number }
  /** [norm, factor] of the global norm √(Σ squares): factor = min(1, clip / (norm + 1e-6)). */
  | { readonly op: "clip"; readonly out: Tensor; readonly squares: Tensor; readonly settings: Tensor }
  /** AdamW in place (Loshchilov & Hutter 2019, arXiv:1711.05101); left undone if the norm is not finite. */
  | {
      readonly op: "adamw";
      readonly out: Tensor; // the weight
      readonly gradient: Tensor;
      readonly mean: Tensor;
      readonly square: Tensor;
      readonly norm: Tensor;
      readonly settings: Tensor;
      readonly decays: boolean;
    }
  | { readonly op: "clear"; readonly out: Tensor };

/** Numbers that the caller writes before an update: `settings` of `clip` and `adamw`. */
export const optimizerSettings = {
  clip: 0,
  /** 1 − learning rate · weight decay. */
  keep: 1,
  beta1: 2,
  beta2: 3,
  eps: 4,
  /** Learning rate / (1 − beta1^step). */
  stepSize: 5,
  /** √(1 − beta2^step). */
  correction: 6,
  /** 1 − beta1 and 1 − beta2, which f32 would round off. */
  rest1: 7,
  rest2: 8,
} as const;
export const OPTIMIZER_SETTINGS = 9;

/** Gradient numbers whose squares are summed as one. */
export const SQUARES_CHUNK = 16384;

/** Rows whose logits are in memory at once: 4 MiB of them, which a cache holds, or 128 rows, worth a walk over the weight. */
export function crossEntropyChunk(vocabSize: number): number {
  return Math.max(128, Math.floor((1 << 20) / vocabSize));
}

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
export type RunNumbers = {
  readonly tokens: number;
  readonly position: number;
  readonly outputs: number;
  /** Rows of one sequence; default: all tokens are one. Only training has more. */
  readonly length?: number;
};

export type Program = {
  readonly limits: Limits;
  readonly operations: readonly Operation[];
  /** Stretches that are replayed by name; without any, a replay is the whole list. */
  readonly parts?: ReadonlyMap<string, Part>;
};

/** Operations `start` to `end` (exclusive). Activations don't outlive their part. */
export type Part = { readonly start: number; readonly end: number };

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
    case "matmul":
      return [operation.x, operation.weight, ...present(operation.plus)];
    case "matmulInput":
      return [operation.dy, operation.weight, ...present(operation.plus)];
    case "matmulWeight":
      return [operation.dy, operation.x, operation.out];
    case "selfAttention":
      return [operation.q, operation.keys, operation.values];
    case "selfAttentionBack":
      return [operation.dy, operation.y, operation.lse, operation.q, operation.keys, operation.values];
    case "rmsnormBack":
      return [operation.dy, operation.x, operation.gain, ...present(operation.plus)];
    case "gainBack":
      return [operation.dy, operation.x, operation.scale, operation.out];
    case "swigluBack":
      return [operation.dy, operation.gate, operation.up];
    case "reluBack":
      return [operation.dy, operation.x];
    case "embedBack":
      return [operation.tokens, operation.dy, operation.out];
    case "crossEntropy":
      return [operation.x, operation.weight, operation.targets];
    case "crossEntropyBack":
      return [operation.x, operation.weight, operation.targets, operation.scale, operation.dWeight];
    case "squares":
      return [operation.gradient];
    case "clip":
      return [operation.squares, operation.settings];
    case "adamw": {
      const { out, gradient, mean, square, norm, settings } = operation;
      return [out, gradient, mean, square, norm, settings];
    }
    case "clear":
      return [];
  }
}

/** The tensors that an operation makes or changes, `out` first. */
export function writesOf(operation: Operation): Tensor[] {
  const { out } = operation;
  switch (operation.op) {
    case "selfAttention":
      return [out, operation.lse];
    case "selfAttentionBack":
      return [out, operation.dKeys, operation.dValues];
    case "rmsnormBack":
      return [out, operation.scale];
    case "swigluBack":
      return [out, operation.dUp];
    case "crossEntropy":
      return [out, operation.logits];
    case "crossEntropyBack":
      return [out, operation.logits, operation.dx, operation.dWeight];
    case "adamw":
      return [out, operation.mean, operation.square, operation.gradient];
    default:
      return [out];
  }
}

/** Operands in whose place `out` may be made: each element is read before its successor is written, by one thread. */
export function overlaysOf(operation: Operation): Tensor[] {
  switch (operation.op) {
    case "add":
      return [operation.x, operation.y];
    case "matmul":
    case "matmulInput":
    case "rmsnormBack":
      return present(operation.plus);
    default:
      return [];
  }
}

function present(tensor: Tensor | undefined): Tensor[] {
  return tensor ? [tensor] : [];
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
  return [...new Set(program.operations.flatMap((operation) => [...readsOf(operation), ...writesOf(operation)]))];
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
  /** An f32 matrix that the caller writes: T rows, or a fixed number. */
  input(name: string, cols: number, rows?: Extent): Tensor;

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

  /** Losses (T, 1) of predicting `targets` from x·weightᵀ. */
  crossEntropy(x: Tensor, weight: Tensor, targets: Tensor): Tensor;
  /** The number of operations so far: bounds of what is recomputed together (backward.ts). */
  count(): number;

  /** Ends the recording; `output` stays readable after a replay. */
  finish(output: Tensor): { readonly program: Program; readonly output: Tensor };
};

/** For `training`, products are f32 throughout, and attention is within sequences rather than over a cache. */
export function createRecorder(limits: Limits, purpose: "inference" | "training" = "inference"): Recorder {
  const operations: Operation[] = [];
  const trains = purpose === "training";
  const quantized = new Map<Tensor, Tensor>();
  /** Products that were made together with a sum, and are nowhere by themselves. */
  const absorbed = new Set<Tensor>();

  function activation(name: string, rows: Extent, cols: number, dtype: Tensor["dtype"] = "f32"): Tensor {
    return { name: `${name}.${operations.length}`, kind: "activation", dtype, rows, cols };
  }

  function push(operation: Operation): Tensor {
    for (const tensor of readsOf(operation)) invariant(!absorbed.has(tensor), `${tensor.name} is part of a sum`);
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
    input: (name, cols, rows = "tokens") => ({ name, kind: "input", dtype: "f32", rows, cols }),

    embed: (tokens, table) => push({ op: "embed", out: activation("embed", tokens.rows, table.cols), tokens, table }),
    rmsnorm(x, gain, eps) {
      mustMatch("rmsnorm", "gain must be as wide as x", x, gain, x.cols === gain.cols);
      return push({ op: "rmsnorm", out: activation("rmsnorm", x.rows, x.cols), x, gain, eps });
    },
    linear(x, weight) {
      mustMatch("linear", "inner sizes must match", x, weight, x.cols === weight.cols);
      if (trains) {
        const out = activation("matmul", x.rows, fixedRows(weight));
        return push({ op: "matmul", out, x, weight, plus: undefined });
      }
      const isQuantized = weight.dtype === "q8" || weight.dtype === "q4";
      const operand = isQuantized ? quantize(x) : x;
      return push({ op: "linear", out: activation("linear", x.rows, fixedRows(weight)), x: operand, weight });
    },
    rope(x, angles) {
      mustMatch("rope", "heads must divide x", x, angles, x.cols % angles.cols === 0);
      return push({ op: "rope", out: activation("rope", x.rows, x.cols), x, angles, isInverse: false });
    },
    store(x, cache) {
      mustMatch("store", "the cache must be as wide as x", x, cache, x.cols === cache.cols);
      return push({ op: "store", out: cache, x });
    },
    attention(q, keys, values, headSize) {
      const fits = q.cols % keys.cols === 0 && keys.cols === values.cols && keys.cols % headSize === 0;
      mustMatch("attention", "key/value heads must divide query heads", q, keys, fits);
      if (trains) {
        const out = activation("attention", q.rows, q.cols);
        const lse = activation("lse", q.rows, q.cols / headSize);
        return push({ op: "selfAttention", out, lse, q, keys, values, headSize });
      }
      return push({ op: "attention", out: activation("attention", q.rows, q.cols), q, keys, values, headSize });
    },
    swiglu(gate, up) {
      mustMatch("swiglu", "shapes must match", gate, up, gate.cols === up.cols);
      return push({ op: "swiglu", out: activation("swiglu", gate.rows, gate.cols), gate, up });
    },
    relu: (x) => push({ op: "relu", out: activation("relu", x.rows, x.cols), x }),
    add(x, y) {
      mustMatch("add", "shapes must match", x, y, x.cols === y.cols && x.rows === y.rows);
      const product = operations.at(-1);
      if (product?.op === "matmul" && product.out === y && x !== y && !product.plus) {
        operations.pop(); // the product adds x as it goes
        absorbed.add(y);
        return push({ ...product, out: activation("matmul", y.rows, y.cols), plus: x });
      }
      return push({ op: "add", out: activation("add", x.rows, x.cols), x, y });
    },
    tail: (x) => push({ op: "tail", out: activation("tail", "outputs", x.cols), x }),
    crossEntropy(x, weight, targets) {
      mustMatch("crossEntropy", "inner sizes must match", x, weight, x.cols === weight.cols);
      const vocabSize = fixedRows(weight);
      const logits = activation("logits", Math.min(crossEntropyChunk(vocabSize), limits.tokens), vocabSize);
      return push({ op: "crossEntropy", out: activation("losses", x.rows, 1), logits, x, weight, targets });
    },
    count: () => operations.length,

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
