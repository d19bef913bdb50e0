/** Operations with one output element for each input element (elementwise.reference.ts), and their gradients. */
import { declare, mustFit } from "../operation.ts";
import * as gradients from "./elementwise-gradient.reference.ts";
import * as forward from "./elementwise.reference.ts";

/** Threads share elements by whole vectors. */
const byElement = {
  counts: { C: ({ y }: { y: { cols: number } }) => y.cols },
  divide: { share: ["rows", "C"], run: 4 },
};
const gradientByElement = {
  counts: { C: ({ x }: { x: { cols: number } }) => x.cols },
  divide: { share: ["rows", "C"], run: 4 },
};

/** a + b. */
export const add = declare({
  name: "add",
  operands: { y: "out", a: "in", b: "in" },
  settings: [],
  shape({ a, b }) {
    mustFit("add", "shapes must match", a, b, a.cols === b.cols && a.rows === b.rows);
    return { y: a };
  },
  oracle: ({ y, a, b }, { rows, of }) => forward.add(y, a, b, rows * of.y.cols),
  gradient({ a, b }, _, dy, tape) {
    tape.add(a, dy);
    tape.add(b, dy);
  },
  flops: ({ y }, rows) => rows * y.cols,
  overlays: ["a", "b"],
  kernel: { file: "elementwise/elementwise", ...byElement },
});

/** silu(gate) · up. */
export const swiglu = declare({
  name: "swiglu",
  operands: { y: "out", gate: "in", up: "in" },
  settings: [],
  shape({ gate, up }) {
    mustFit("swiglu", "shapes must match", gate, up, gate.cols === up.cols && gate.rows === up.rows);
    return { y: gate };
  },
  oracle: ({ y, gate, up }, { rows, of }) => forward.swiglu(y, gate, up, rows * of.y.cols),
  gradient({ gate, up }, _, dy, tape) {
    const { dGate, dUp } = tape.record(swigluBack, { dy, gate, up });
    tape.add(gate, dGate);
    tape.add(up, dUp);
  },
  flops: ({ y }, rows) => 5 * rows * y.cols,
  kernel: { file: "elementwise/elementwise", ...byElement },
});

export const swigluBack = declare({
  name: "swigluBack",
  operands: { dGate: "out", dUp: "out", dy: "in", gate: "in", up: "in" },
  settings: [],
  shape: ({ gate, up }) => ({ dGate: gate, dUp: up }),
  oracle({ dGate, dUp, dy, gate, up }, { rows, of }) {
    gradients.swigluBack(dGate, dUp, dy, gate, up, rows * of.gate.cols);
  },
  flops: ({ gate }, rows) => 12 * rows * gate.cols,
  kernel: {
    file: "elementwise/elementwise-gradient",
    counts: { C: ({ gate }) => gate.cols },
    divide: { share: ["rows", "C"], run: 4 },
  },
});

/** max(x, 0). */
export const relu = declare({
  name: "relu",
  operands: { y: "out", x: "in" },
  settings: [],
  shape: ({ x }) => ({ y: x }),
  oracle: ({ y, x }, { rows, of }) => forward.relu(y, x, rows * of.y.cols),
  gradient({ x }, _, dy, tape) {
    tape.add(x, tape.record(reluBack, { dy, x }).dx);
  },
  flops: ({ y }, rows) => rows * y.cols,
  kernel: { file: "elementwise/elementwise", ...byElement },
});

export const reluBack = declare({
  name: "reluBack",
  operands: { dx: "out", dy: "in", x: "in" },
  settings: [],
  shape: ({ x }) => ({ dx: x }),
  oracle: ({ dx, dy, x }, { rows, of }) => gradients.reluBack(dx, dy, x, rows * of.x.cols),
  flops: ({ x }, rows) => rows * x.cols,
  kernel: { file: "elementwise/elementwise-gradient", ...gradientByElement },
});
