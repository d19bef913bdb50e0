/** The global norm of the gradients, and AdamW (adamw.reference.ts). */
import { declare, fixedCount } from "../operation.ts";
import * as oracles from "./adamw.reference.ts";

/** Numbers that the caller writes before an update: `settings` of `clip`, `adamw` and `muon`, by place. */
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
  /** Muon's momentum, with what is left to 1. */
  momentum: 9,
  restMomentum: 10,
  learningRate: 11,
} as const;
export const OPTIMIZER_SETTINGS = 12;

/** Gradient numbers whose squares are summed as one. */
export const SQUARES_CHUNK = 16384;

export function countChunks(count: number): number {
  return Math.ceil(count / SQUARES_CHUNK);
}

/** Chunks of Σ gradient², from number `at` of `sums` on. */
export const squares = declare({
  name: "squares",
  operands: { sums: "inout", gradient: "in" },
  settings: ["at"],
  shape: () => ({}),
  oracle: ({ sums, gradient }, { settings }) => oracles.squares(sums, gradient, settings.at, SQUARES_CHUNK),
  flops: ({ gradient }) => 2 * fixedCount(gradient),
  kernel: {
    file: "adamw/adamw",
    sizes: { at: (_, { at }) => at, count: ({ gradient }) => gradient.rows * gradient.cols },
    settings: [],
    counts: { chunks: ({ gradient }) => countChunks(gradient.rows * gradient.cols) },
    divide: { share: ["chunks"] },
  },
});

/** [norm, factor] of the global norm √(Σ squares): factor = min(1, clip / (norm + 1e-6)). */
export const clip = declare({
  name: "clip",
  operands: { norm: "inout", squares: "in", settings: "in" },
  settings: [],
  shape: () => ({}),
  oracle: ({ norm, squares: sums, settings }) => oracles.clip(norm, sums, settings[optimizerSettings.clip]!),
  flops: ({ squares: sums }) => sums.cols,
  kernel: {
    file: "adamw/adamw",
    sizes: { count: ({ squares: sums }) => sums.cols },
    counts: { one: () => 1 },
    divide: { share: ["one"] },
  },
});

/** AdamW in place (Loshchilov & Hutter 2019, arXiv:1711.05101); left undone if the norm is not finite. Clears the gradient. */
export const adamw = declare({
  name: "adamw",
  operands: { weight: "inout", gradient: "inout", mean: "inout", square: "inout", norm: "in", settings: "in" },
  settings: ["decays"],
  shape: () => ({}),
  oracle({ weight, gradient, mean, square, norm, settings: values }, { settings }) {
    const [total, factor] = norm;
    if (!Number.isFinite(total)) return;
    const setting = (name: keyof typeof optimizerSettings): number => values[optimizerSettings[name]]!;
    oracles.adamw(weight, gradient, mean, square, factor!, {
      keep: settings.decays ? setting("keep") : 1,
      beta1: setting("beta1"),
      beta2: setting("beta2"),
      eps: setting("eps"),
      stepSize: setting("stepSize"),
      correction: setting("correction"),
    });
  },
  flops: ({ weight }) => 14 * fixedCount(weight),
  kernel: {
    file: "adamw/adamw",
    counts: { count: ({ weight }) => weight.rows * weight.cols },
    divide: { share: ["count"], run: 4 },
  },
});

/** Zeros. */
export const clear = declare({
  name: "clear",
  operands: { gradient: "inout" },
  settings: [],
  shape: () => ({}),
  oracle: ({ gradient }) => void gradient.fill(0),
  flops: () => 0,
  kernel: {
    file: "adamw/adamw",
    counts: { count: ({ gradient }) => gradient.rows * gradient.cols },
    divide: { share: ["count"], run: 4 },
  },
});
