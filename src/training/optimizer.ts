/** The optimizers' settings, and the numbers of one update. */
import { OPTIMIZER_SETTINGS, optimizerSettings } from "../kernels/adamw/adamw.ts";
import * as o from "../options.ts";

export type OptimizerOptions = {
  /**
   * `muon` (Jordan et al. 2024, arXiv:2502.16982): matrices step in the orthogonal direction nearest to their momentum, scaled to AdamW's
   * usual step, so that a recipe's learning rate and decay hold for both. Embedding, head and gains stay with AdamW. Default: `adamw`.
   */
  readonly kind?: "adamw" | "muon" | undefined;
  /** How much the moving averages of the gradient and of its square keep in a step. Default: [0.9, 0.95]. */
  readonly betas?: readonly [number, number] | undefined;
  /** Default: 1e-8. */
  readonly eps?: number | undefined;
  /** How much matrices, embedding and head among them, lose in a step, times the learning rate; gains never decay. Default: 0.1. */
  readonly weightDecay?: number | undefined;
  /** The largest global norm of the gradients; null: unlimited. Default: 1. */
  readonly clip?: number | null | undefined;
  /** How much Muon's moving average of the gradient keeps in a step. Default: 0.95. */
  readonly momentum?: number | undefined;
};

/** Settings with nothing left open. */
export type Optimizer = o.Filled<OptimizerOptions>;

export const optimizerSchema: o.Schema<OptimizerOptions, Optimizer> = o.object({
  kind: o.withDefault(o.choice("adamw", "muon"), "adamw"),
  betas: o.withDefault(o.pair(o.number({ min: 0, below: 1 })), [0.9, 0.95]),
  eps: o.withDefault(o.positive, 1e-8),
  weightDecay: o.withDefault(o.number({ min: 0 }), 0.1),
  clip: o.withDefault(o.orNull(o.number({ above: 0 }, "a number above 0, or null for none")), 1),
  momentum: o.withDefault(o.number({ min: 0, below: 1 }), 0.95),
});

/** Checks and fills in. @throws {RangeError} naming the field. */
export function createOptimizer(options: OptimizerOptions = {}): Optimizer {
  return o.check("optimizer", optimizerSchema, options);
}

/** @param step updates done before this one, from 0. */
export function settingsAt(
  { betas, eps, weightDecay, clip, momentum }: Optimizer,
  step: number,
  learningRate: number,
): Float32Array {
  const settings = new Float32Array(OPTIMIZER_SETTINGS);
  const [beta1, beta2] = betas;
  settings[optimizerSettings.clip] = clip ?? Infinity;
  settings[optimizerSettings.keep] = 1 - learningRate * weightDecay;
  settings[optimizerSettings.beta1] = beta1;
  settings[optimizerSettings.beta2] = beta2;
  settings[optimizerSettings.rest1] = 1 - beta1;
  settings[optimizerSettings.rest2] = 1 - beta2;
  settings[optimizerSettings.eps] = eps;
  settings[optimizerSettings.stepSize] = learningRate / (1 - beta1 ** (step + 1));
  settings[optimizerSettings.momentum] = momentum;
  settings[optimizerSettings.restMomentum] = 1 - momentum;
  settings[optimizerSettings.learningRate] = learningRate;
  settings[optimizerSettings.correction] = Math.sqrt(1 - beta2 ** (step + 1));
  return settings;
}
