/**
 * Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/) as torch.optim.Muon has it with
 * `adjust_lr_fn="match_rms_adamw"` (Liu et al. 2025, arXiv:2502.16982, equation 4), in f64 where it rounds to bfloat16. The oracle.
 */
import type { Floats } from "../floats.ts";

/** x ← a·x + (b·G + c·G²)·x, G = x·xᵀ: five rounds bring every singular value near 1. */
export const newtonSchulz = { a: 3.4445, b: -4.775, c: 2.0315, rounds: 5, eps: 1e-7 } as const;

export type MuonSettings = {
  /** 1 − learning rate · weight decay. */
  readonly keep: number;
  readonly momentum: number;
  readonly learningRate: number;
};

/** Clears the gradient for the next sum. */
export function muon(
  weight: Floats, // (O, K)
  gradient: Floats,
  mean: Floats,
  O: number,
  K: number,
  factor: number, // of the gradient, by clipping
  { keep, momentum, learningRate }: MuonSettings,
): void {
  let update: number[] = [];
  for (let i = 0; i < O * K; i++) {
    const g = gradient[i]! * factor;
    mean[i] = momentum * mean[i]! + (1 - momentum) * g;
    update[i] = momentum * mean[i]! + (1 - momentum) * g; // Nesterov's
    gradient[i] = 0;
  }
  update = orthogonal(update, O, K);
  for (let i = 0; i < O * K; i++) weight[i] = weight[i]! * keep - learningRate * stepScale(O, K) * update[i]!;
}

/** An orthogonal step's numbers are 1 / √max(O, K) in the mean square; AdamW's are about 0.2. */
export function stepScale(O: number, K: number): number {
  return 0.2 * Math.sqrt(Math.max(O, K));
}

function orthogonal(matrix: readonly number[], O: number, K: number): number[] {
  const { a, b, c, rounds, eps } = newtonSchulz;
  const norm = Math.max(eps, Math.sqrt(matrix.reduce((sum, value) => sum + value * value, 0)));
  // By the shorter side: rows of x are rows of the matrix, or its columns.
  const [m, n] = O <= K ? [O, K] : [K, O];
  const at = (i: number, j: number): number => (O <= K ? i * K + j : j * K + i);
  let x = matrix.map((value) => value / norm);
  for (let round = 0; round < rounds; round++) {
    const gram: number[] = [];
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < m; j++) {
        let sum = 0;
        for (let k = 0; k < n; k++) sum += x[at(i, k)]! * x[at(j, k)]!;
        gram[i * m + j] = sum;
      }
    }
    const polynomial = gram.map((value, index) => {
      const [i, j] = [Math.floor(index / m), index % m];
      let square = 0;
      for (let k = 0; k < m; k++) square += gram[i * m + k]! * gram[k * m + j]!;
      return b * value + c * square;
    });
    const next: number[] = [];
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = a * x[at(i, j)]!;
        for (let k = 0; k < m; k++) sum += polynomial[i * m + k]! * x[at(k, j)]!;
        next[at(i, j)] = sum;
      }
    }
    x = next;
  }
  return x;
}
