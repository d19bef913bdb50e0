/** The optimizers' settings, and the numbers of one update. */
import { refuseUnknownKeys } from "../errors.ts";
import { OPTIMIZER_SETTINGS, optimizerSettings } from "../kernels/adamw/adamw.ts";

export type OptimizerOptions = {
  /**
   * `muon` (Jordan et al. 2024, arXiv:2502.16982): matrices step in the orthogonal direction nearest to their momentum, scaled to AdamW's
   * usual step, so that a recipe's learning rate and decay hold for both. Embedding, head and gains stay with AdamW. Default: `adamw`.
   */
  readonly kind?: "adamw" | "muon";
  /** Of the moving averages of the gradient and its square. Default: [0.9, 0.95]. */
  readonly betas?: readonly [number, number];
  /** Default: 1e-8. */
  readonly eps?: number;
  /** Of matrices, embedding and head among them; gains never decay. Default: 0.1. */
  readonly weightDecay?: number;
  /** The largest global norm of the gradients; null: unlimited. Default: 1. */
  readonly clip?: number | null;
  /** Of Muon's moving average of the gradient. Default: 0.95. */
  readonly momentum?: number;
};

export type Optimizer = Required<OptimizerOptions>;

/** Checks and fills in. @throws {RangeError} naming the field. */
export function createOptimizer(options: OptimizerOptions = {}): Optimizer {
  refuseUnknownKeys("optimizer", options, ["kind", "betas", "eps", "weightDecay", "clip", "momentum"]);
  const { kind = "adamw", betas = [0.9, 0.95], eps = 1e-8, weightDecay = 0.1, clip = 1, momentum = 0.95 } = options;
  if (kind !== "adamw" && kind !== "muon") {
    throw new RangeError(`optimizer.kind: expected "adamw" or "muon", got ${JSON.stringify(kind)}.`);
  }
  const isBeta = (beta: number): boolean => Number.isFinite(beta) && beta >= 0 && beta < 1;
  if (!Array.isArray(betas) || betas.length !== 2 || !betas.every(isBeta)) {
    throw new RangeError(`optimizer.betas: expected two numbers from 0 to below 1, got ${JSON.stringify(betas)}.`);
  }
  if (!isAbove(eps, 0)) throw new RangeError(`optimizer.eps: expected a positive number, got ${String(eps)}.`);
  if (!(isAbove(weightDecay, 0) || weightDecay === 0)) {
    throw new RangeError(`optimizer.weightDecay: expected a number from 0, got ${String(weightDecay)}.`);
  }
  if (clip !== null && !isAbove(clip, 0)) {
    throw new RangeError(`optimizer.clip: expected a positive number or null for none, got ${String(clip)}.`);
  }
  if (!isBeta(momentum)) {
    throw new RangeError(`optimizer.momentum: expected a number from 0 to below 1, got ${String(momentum)}.`);
  }
  return { kind, betas, eps, weightDecay, clip, momentum };
}

function isAbove(value: number, limit: number): boolean {
  return Number.isFinite(value) && value > limit;
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
