import { describe, expect, test } from "vitest";
import { createRandom } from "../random.ts";
import { argmax, logSumExp, logSumExpAsTorch } from "./log-softmax.ts";

const random = createRandom(5);
/** A row as a model gives it: one token far above a long tail. */
const row = Float32Array.from({ length: 49_152 }, (_, i) => (i === 777 ? 17 : 3 * random.normal()));

describe("log Σ exp", () => {
  test("is the plain sum's, from any place on", () => {
    const exact = 17 + Math.log(row.reduce((sum, x) => sum + Math.exp(x - 17), 0));
    expect(logSumExp(row)).toBeCloseTo(exact, 9);
    expect(logSumExp(Float32Array.of(9, 1, 2, 9), 1, 2)).toBeCloseTo(Math.log(Math.E + Math.E ** 2), 9);
    expect(logSumExp([-Infinity, 3])).toBe(3);
    expect(argmax(row)).toBe(777);
  });

  test("as torch: sixteen f32 sums, the large term's losing what is small beside it", () => {
    const lanes = Array.from({ length: 16 }, (_, lane) => {
      let sum = 0;
      for (let i = lane; i < row.length; i += 16) sum = Math.fround(sum + Math.fround(Math.exp(row[i]! - 17)));
      return sum;
    });
    for (let half = 8; half >= 1; half /= 2) {
      for (let i = 0; i < half; i++) lanes[i] = Math.fround(lanes[i]! + lanes[i + half]!);
    }
    const result = logSumExpAsTorch(row, 0, row.length);
    expect(result).toBeCloseTo(17 + Math.fround(Math.log(lanes[0]!)), 7);
    expect(logSumExp(row) - result).toBeGreaterThan(1e-6);
    expect(logSumExp(row) - result).toBeLessThan(1e-4);
    expect(logSumExpAsTorch(Float32Array.of(9, 1, 2, 9), 1, 2)).toBeCloseTo(Math.log(Math.E + Math.E ** 2), 6);
  });

  test("names the token whose logit is no number", () => {
    for (const sum of [logSumExp, logSumExpAsTorch]) {
      expect(() => sum(Float32Array.of(1, Number.NaN, 2), 0, 3)).toThrow("got NaN for token 1");
      expect(() => sum(Float32Array.of(1, Infinity, 2), 0, 3)).toThrow("got Infinity for token 1");
      expect(() => sum(Float32Array.of(-Infinity, -Infinity), 0, 2)).toThrow("at least one token must be possible");
    }
  });
});
