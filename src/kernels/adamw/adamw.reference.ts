/**
 * AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2) as torch.optim.AdamW has it, with the gradient clipped
 * by its global norm as torch.nn.utils.clip_grad_norm_ does. The oracles.
 */
import type { Floats } from "../floats.ts";

export type AdamwSettings = {
  /** 1 − learning rate · weight decay; 1 for what doesn't decay. */
  readonly keep: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  /** Learning rate / (1 − beta1^step). */
  readonly stepSize: number;
  /** √(1 − beta2^step). */
  readonly correction: number;
};

/** Clears the gradient for the next sum. */
export function adamw(
  weight: Floats,
  gradient: Floats,
  mean: Floats,
  square: Floats,
  factor: number, // of the gradient, by clipping
  { keep, beta1, beta2, eps, stepSize, correction }: AdamwSettings,
): void {
  for (let i = 0; i < weight.length; i++) {
    const g = gradient[i]! * factor;
    mean[i] = beta1 * mean[i]! + (1 - beta1) * g;
    square[i] = beta2 * square[i]! + (1 - beta2) * g * g;
    weight[i] = weight[i]! * keep - (stepSize * mean[i]!) / (Math.sqrt(square[i]!) / correction + eps);
    gradient[i] = 0;
  }
}

/** [norm, factor]: the global norm, and what the gradients are multiplied by so that it is at most `clip`. */
export function clip(out: Floats, squares: Floats, limit: number): void {
  let sum = 0;
  for (const square of squares) sum += square;
  out[0] = Math.sqrt(sum);
  out[1] = Math.min(1, limit / (Math.sqrt(sum) + 1e-6));
}

/** Sums of the squares of `chunk` numbers each, from number `at` of `sums` on. */
export function squares(sums: Floats, gradient: Floats, at: number, chunk: number): void {
  for (let start = 0; start < gradient.length; start += chunk) {
    let sum = 0;
    for (const value of gradient.subarray(start, start + chunk)) sum += value * value;
    sums[at + start / chunk] = sum;
  }
}
