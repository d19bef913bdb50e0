import { describe, expect, it } from "vitest";
import {
  expectAgreement,
  type KernelCase,
  reference,
  rowCounts,
  runCase,
  wasm,
} from "../../../test/support/kernel-agreement.ts";

/** Off the group size, so that the last group is short. */
const WIDTH = 92;

/** 127 on the diagonal is exact in q8 (scale 1), so the product shows the rounded activations themselves, times 127. */
const diagonal = Float32Array.from({ length: WIDTH ** 2 }, (_, i) => (i % (WIDTH + 1) === 0 ? 127 : 0));

describe.each(rowCounts)("quantize of %i rows", (tokens) => {
  const rounded: KernelCase = {
    tokens,
    record: ({ r, input, weight }) => r.linear(input(WIDTH), weight(WIDTH, WIDTH, "q8", diagonal)),
  };
  const everyRow = Array.from({ length: tokens }, (_, row) => row);
  const kept: KernelCase = {
    tokens,
    record: ({ r, input, table }) => r.pick(input(WIDTH), table(r.indices("rows"), everyRow)),
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
