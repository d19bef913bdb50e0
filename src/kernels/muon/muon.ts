/** Muon (muon.reference.ts). */
import { optimizerSettings } from "../adamw/adamw.ts";
import { declare, fixedCount, fixedRows } from "../operation.ts";
import * as oracles from "./muon.reference.ts";

/**
 * Muon in place: the matrix steps in the orthogonal direction nearest to its momentum; left undone if the norm is not finite.
 * Clears the gradient.
 */
export const muon = declare({
  name: "muon",
  operands: { weight: "inout", gradient: "inout", mean: "inout", norm: "in", settings: "in" },
  settings: [],
  shape: () => ({}),
  oracle({ weight, gradient, mean, norm, settings }, { of }) {
    const [total, factor] = norm;
    if (!Number.isFinite(total)) return;
    oracles.muon(weight, gradient, mean, fixedRows(of.weight), of.weight.cols, factor!, {
      keep: settings[optimizerSettings.keep]!,
      momentum: settings[optimizerSettings.momentum]!,
      learningRate: settings[optimizerSettings.learningRate]!,
    });
  },
  flops({ weight }) {
    const shorter = Math.min(fixedRows(weight), weight.cols);
    return oracles.newtonSchulz.rounds * (4 * shorter * fixedCount(weight) + 2 * shorter ** 3);
  },
});
