import { describe, expect, test } from "vitest";
import { createRandom } from "../random.ts";
import { argmax, logSumExp } from "./log-softmax.ts";

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

  test("names the token whose logit is no number", () => {
    expect(() => logSumExp([1, Number.NaN, 2])).toThrow("got NaN for token 1");
    expect(() => logSumExp([1, Infinity, 2])).toThrow("got Infinity for token 1");
    expect(() => logSumExp([-Infinity, -Infinity])).toThrow("at least one token must be possible");
  });
});
