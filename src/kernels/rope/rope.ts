/** Rotary positions (rope.reference.ts). The gradient of a rotation is the rotation back. */
import { declare, mustFit } from "../operation.ts";
import * as forward from "./rope.reference.ts";

/**
 * Rotates pairs (i, i + D/2) of each head by the angles of its position; `angles` (positions, D) = cos ‖ sin. Row t stands at
 * position P + t of its sequence, or where `places` says of cache row `slots[t]` (tensor/places.ts).
 */
export const rope = declare({
  name: "rope",
  operands: { y: "out", x: "in", angles: "in", slots: "ids?", places: "ids?" },
  settings: ["isInverse"],
  shape({ x, angles }) {
    mustFit("rope", "heads must divide x", x, angles, x.cols % angles.cols === 0);
    return { y: x };
  },
  oracle({ y, x, angles, slots, places }, { rows, of, settings, numbers: { position, length } }) {
    const positionOf = forward.positions(position, length, slots, places);
    forward.rope(y, x, angles, rows, of.x.cols, of.angles.cols, positionOf, settings.isInverse !== 0);
  },
  gradient({ x, angles }, { isInverse }, dy, tape) {
    tape.add(x, tape.record(rope, { x: dy, angles, isInverse: 1 - isInverse }).y);
  },
  flops: ({ y }, rows) => 3 * rows * y.cols,
  kernel: {
    file: "rope/rope",
    sizes: { C: ({ y }) => y.cols, D: ({ angles }) => angles.cols },
    runtime: ["position", "length"],
    divide: { share: ["rows"] },
  },
});
