/** What a score needs of each row of logits (log-probability.reference.ts). */
import { declare } from "../operation.ts";
import * as oracles from "./log-probability.reference.ts";

/** Rows of logits (N, V) → (N, 2): [log P(target), 1 if no token is likelier, else 0]. */
export const logProbability = declare({
  name: "logProbability",
  operands: { y: "out", logits: "in", targets: "ids" },
  settings: [],
  shape: ({ targets }) => ({ y: { rows: targets.rows, cols: 2 } }),
  oracle({ y, logits, targets }, { rows, of }) {
    oracles.logProbability(y, logits, targets, rows, of.logits.cols);
  },
  flops: ({ logits }, rows) => 3 * rows * logits.cols,
  kernel: {
    file: "log-probability/log-probability",
    sizes: { V: ({ logits }) => logits.cols },
    runtime: ["scratch"],
    scratchBytes: 16 * 4, // sums
    divide: { share: ["rows"] },
  },
});
