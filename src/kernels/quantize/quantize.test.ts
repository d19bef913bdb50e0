import { describe, expect, it } from "vitest";
import {
  expectAgreement,
  type KernelCase,
  reference,
  rowCounts,
  runCase,
  wasm,
} from "../../../test/support/kernel-agreement.ts";
import { ids } from "../../program/recorder.ts";
import { quantize } from "./quantize.reference.ts";

/** Off the group size, so that the last group is short. */
const WIDTH = 92;

/** 127 on the diagonal is exact in q8 (scale 1), so the product shows the rounded activations themselves, times 127. */
const diagonal = Float32Array.from({ length: WIDTH ** 2 }, (_, i) => (i % (WIDTH + 1) === 0 ? 127 : 0));

it("rounds to whole numbers of a step, largest / 32767 in each group of a row", () => {
  const x = new Float64Array(2 * 40);
  x.set([32767, 100.4, -100.6, 0.5, -32767], 0); // steps of 1
  x.set([0.1, -2 * 32767], 32); // a short group, steps of 2
  // The first group of the second row is zeros.
  x.set([32767 / 2, 0.26], 40 + 32); // steps of a half
  const y = new Float64Array(x.length);
  quantize(y, x, 2, 40);
  const expected = new Float64Array(x.length);
  expected.set([32767, 100, -101, 1, -32767], 0);
  expected.set([0, -2 * 32767], 32);
  expected.set([32767 / 2, 0.5], 40 + 32);
  expect([...y].map((value) => value || 0)).toEqual([...expected]);
});

describe.each(rowCounts)("quantize of %i rows", (tokens) => {
  const rounded: KernelCase = {
    tokens,
    record: ({ r, input, weight }) => r.linear({ x: input(WIDTH), weight: weight(WIDTH, WIDTH, "q8", diagonal) }),
  };
  const everyRow = Array.from({ length: tokens }, (_, row) => row);
  const kept: KernelCase = {
    tokens,
    record: ({ r, input, table }) => r.pick({ x: input(WIDTH), rows: table(ids("rows", "outputs"), everyRow) }),
  };

  it("agrees with its oracle, but for one step where the fraction is a half", () =>
    expectAgreement(rounded, 1.01 / 32767));

  it("moves no value by more than half a step, largest / 32767 in its group", async () => {
    const before = await runCase(reference, kept);
    const after = await runCase(wasm, rounded);
    for (const [i, value] of before.entries()) {
      const start = i - ((i % WIDTH) % 32);
      const end = Math.min(start + 32, i - (i % WIDTH) + WIDTH);
      const largest = before.subarray(start, end).reduce((a, b) => Math.max(a, Math.abs(b)), 0);
      expect(Math.abs(after[i]! / 127 - value)).toBeLessThanOrEqual((0.501 * largest) / 32767);
    }
  });
});
