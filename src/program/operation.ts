/** Tensors, the operations over them, and what each reads and writes. */
import type { Dtype } from "../tensor/dtype.ts";

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
  /** Rows lie in blocks of 8 (tensor/pack.ts): matrices of inference. Else one after the other. */
  readonly isBlocked?: boolean;
  /** Of a constant: its values, row by row. */
  readonly values?: Float32Array;
};

/** `places` (positions, 3): see tensor/places.ts. Without it, row t of a replay stands at P + t, after all rows before it. */
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
      readonly places: Tensor | undefined;
    }
  | { readonly op: "store"; readonly out: Tensor; readonly x: Tensor }
  | ({ readonly op: "attention"; readonly out: Tensor; readonly places: Tensor | undefined } & Attention)
  | { readonly op: "swiglu"; readonly out: Tensor; readonly gate: Tensor; readonly up: Tensor }
  | { readonly op: "relu"; readonly out: Tensor; readonly x: Tensor }
  | { readonly op: "add"; readonly out: Tensor; readonly x: Tensor; readonly y: Tensor }
  | { readonly op: "pick"; readonly out: Tensor; readonly x: Tensor; readonly rows: Tensor }
  | { readonly op: "logProbability"; readonly out: Tensor; readonly logits: Tensor; readonly targets: Tensor }
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
  | ({ readonly op: "selfAttention"; readonly out: Tensor; readonly lse: Tensor } & Attention)
  | ({
      readonly op: "selfAttentionBack";
      readonly out: Tensor; // dq
      readonly dKeys: Tensor;
      readonly dValues: Tensor;
      readonly dy: Tensor;
      readonly y: Tensor;
      readonly lse: Tensor;
    } & Attention)
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
  | ({ readonly op: "crossEntropy" } & CrossEntropy)
  /** The same, and the gradients of `scale` · Σ losses: `dx`, and `dWeight` added to. No second pass over the logits. */
  | ({
      readonly op: "crossEntropyBack";
      readonly scale: Tensor;
      readonly dx: Tensor;
      readonly dWeight: Tensor;
    } & CrossEntropy)
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
  /**
   * Muon in place (kernels/muon): the matrix steps in the orthogonal direction nearest to its momentum; left undone if the norm
   * is not finite. `update` and `next` are as large as the matrix, `gram` and `polynomial` (m, m), m its shorter side.
   */
  | {
      readonly op: "muon";
      readonly out: Tensor; // the weight
      readonly gradient: Tensor;
      readonly mean: Tensor;
      readonly norm: Tensor;
      readonly settings: Tensor;
      readonly update: Tensor;
      readonly squares: Tensor;
      readonly next: Tensor;
      readonly gram: Tensor;
      readonly polynomial: Tensor;
    }
  | { readonly op: "clear"; readonly out: Tensor };

type Attention = {
  readonly q: Tensor;
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly headSize: number;
};

type CrossEntropy = {
  readonly out: Tensor;
  readonly logits: Tensor;
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly targets: Tensor;
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
      return [operation.x, operation.angles, ...present(operation.places)];
    case "attention":
      return [operation.q, operation.keys, operation.values, ...present(operation.places)];
    case "swiglu":
      return [operation.gate, operation.up];
    case "add":
      return [operation.x, operation.y];
    case "quantize":
    case "store":
    case "relu":
      return [operation.x];
    case "pick":
      return [operation.x, operation.rows];
    case "logProbability":
      return [operation.logits, operation.targets];
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
    case "muon": {
      const { out, gradient, mean, norm, settings } = operation;
      return [out, gradient, mean, norm, settings];
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
    case "muon": {
      const { mean, gradient, update, squares, next, gram, polynomial } = operation;
      return [out, mean, gradient, update, squares, next, gram, polynomial];
    }
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

/** Numbers that the caller writes before an update: `settings` of `clip`, `adamw` and `muon`. */
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
  /** Of Muon, with what is left to 1. */
  momentum: 9,
  restMomentum: 10,
  learningRate: 11,
} as const;
export const OPTIMIZER_SETTINGS = 12;

/** Gradient numbers whose squares are summed as one. */
export const SQUARES_CHUNK = 16384;
