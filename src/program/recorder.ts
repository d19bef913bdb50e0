/** Writes a program: the model function runs against a recorder once. */
import { invariant, ShapeError } from "../errors.ts";
import type { Dtype } from "../tensor/dtype.ts";
import { PLACE_WORDS } from "../tensor/places.ts";
import { type Extent, type Operation, readsOf, type Tensor } from "./operation.ts";
import type { Limits, Program } from "./program.ts";

/** Writes the list. One recorder makes one program. */
export type Recorder = {
  readonly limits: Limits;
  /** A matrix. For training it is in f32, row by row. */
  weight(name: string, rows: number, cols: number, dtype: Dtype): Tensor;
  /** A row of f32. */
  gain(name: string, cols: number): Tensor;
  /** A matrix computed now and the same in every replay. */
  constant(name: string, values: Float32Array, cols: number): Tensor;
  /** (positions, cols) in f32. */
  cache(name: string, cols: number): Tensor;
  /** T token ids that the caller writes. */
  tokens(name: string): Tensor;
  /** N numbers that the caller writes: rows to pick, or tokens to find. */
  indices(name: string): Tensor;
  /** Where each cache row stands in its text (tensor/places.ts); the caller writes those of T rows before a replay. */
  places(): Tensor;
  /** An f32 matrix that the caller writes: T rows, or a fixed number. */
  input(name: string, cols: number, rows?: Extent): Tensor;

  /** Rows of `table` (V, C) by token id → (T, C). */
  embed(tokens: Tensor, table: Tensor): Tensor;
  /** x / √(mean x² + eps) · gain, row by row. */
  rmsnorm(x: Tensor, gain: Tensor, eps: number): Tensor;
  /** x (T, K) · weightᵀ, weight (O, K) → (T, O). Quantized weights meet quantized activations. */
  linear(x: Tensor, weight: Tensor): Tensor;
  /** Rotates pairs (i, i + D/2) of each head by the angles of its position; `angles` (positions, D) = cos ‖ sin. */
  rope(x: Tensor, angles: Tensor, places?: Tensor): Tensor;
  /** Writes rows into a cache at P, P + 1, …; gives the cache. */
  store(x: Tensor, cache: Tensor): Tensor;
  /** Causal grouped-query attention of q (T, H·D) over keys and values (positions, G·D) → (T, H·D). */
  attention(q: Tensor, keys: Tensor, values: Tensor, headSize: number, places?: Tensor): Tensor;
  /** silu(gate) · up. */
  swiglu(gate: Tensor, up: Tensor): Tensor;
  relu(x: Tensor): Tensor;
  add(x: Tensor, y: Tensor): Tensor;
  /** N of T rows, by index. */
  pick(x: Tensor, rows: Tensor): Tensor;
  /** Of each row of logits (N, V): [log P(target), 1 if no token is likelier, else 0] → (N, 2), an output. */
  logProbability(logits: Tensor, targets: Tensor): Tensor;

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
    weight: (name, rows, cols, dtype) => ({ name, kind: "weight", dtype, rows, cols, isBlocked: !trains }),
    gain: (name, cols) => ({ name, kind: "weight", dtype: "f32", rows: 1, cols }),
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
    indices: (name) => ({ name, kind: "input", dtype: "i32", rows: "outputs", cols: 1 }),
    places: () => ({ name: "places", kind: "input", dtype: "i32", rows: limits.positions, cols: PLACE_WORDS }),
    input: (name, cols, rows = "tokens") => ({ name, kind: "input", dtype: "f32", rows, cols }),

    embed: (tokens, table) => push({ op: "embed", out: activation("embed", tokens.rows, table.cols), tokens, table }),
    rmsnorm(x, gain, eps) {
      mustMatch("rmsnorm", "gain must be as wide as x", x, gain, x.cols === gain.cols);
      invariant(!gain.isBlocked, `${gain.name} is a gain, not a matrix`);
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
    rope(x, angles, places) {
      mustMatch("rope", "heads must divide x", x, angles, x.cols % angles.cols === 0);
      return push({ op: "rope", out: activation("rope", x.rows, x.cols), x, angles, isInverse: false, places });
    },
    store(x, cache) {
      mustMatch("store", "the cache must be as wide as x", x, cache, x.cols === cache.cols);
      return push({ op: "store", out: cache, x });
    },
    attention(q, keys, values, headSize, places) {
      const fits = q.cols % keys.cols === 0 && keys.cols === values.cols && keys.cols % headSize === 0;
      mustMatch("attention", "key/value heads must divide query heads", q, keys, fits);
      if (trains) {
        const out = activation("attention", q.rows, q.cols);
        const lse = activation("lse", q.rows, q.cols / headSize);
        return push({ op: "selfAttention", out, lse, q, keys, values, headSize });
      }
      const out = activation("attention", q.rows, q.cols);
      return push({ op: "attention", out, q, keys, values, headSize, places });
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
    pick: (x, rows) => push({ op: "pick", out: activation("pick", rows.rows, x.cols), x, rows }),
    logProbability: (logits, targets) =>
      push({
        op: "logProbability",
        out: { ...activation("logProbability", targets.rows, 2), kind: "output" },
        logits,
        targets,
      }),
    crossEntropy(x, weight, targets) {
      mustMatch("crossEntropy", "inner sizes must match", x, weight, x.cols === weight.cols);
      const vocabSize = fixedRows(weight);
      const logits = activation("logits", Math.min(crossEntropyChunk(vocabSize), limits.tokens), vocabSize);
      return push({ op: "crossEntropy", out: activation("losses", x.rows, 1), logits, x, weight, targets });
    },
    count: () => operations.length,

    finish(output) {
      const kept: Tensor = { ...output, name: "output", kind: "output" };
      const rename = ([key, value]: [string, unknown]): [string, unknown] => [key, value === output ? kept : value];
      const renamed = operations.map(
        (operation) => Object.fromEntries(Object.entries(operation).map(rename)) as Operation,
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

/** Rows whose logits are in memory at once: 4 MiB of them, which a cache holds, or 128 rows, worth a walk over the weight. */
export function crossEntropyChunk(vocabSize: number): number {
  return Math.max(128, Math.floor((1 << 20) / vocabSize));
}
