import { array, assert as assertProperty, integer, property } from "fast-check";
import { describe, expect, it } from "vitest";
import { createOrder } from "./row-order.ts";

function orderOf(count: number, keys: readonly number[]): number[] {
  return Array.from({ length: count }, (_, i) => i).map(createOrder(count, keys));
}

describe("createOrder", () => {
  it("is a permutation for every size and key", () => {
    assertProperty(
      property(integer({ min: 1, max: 700 }), array(integer(), { minLength: 1, maxLength: 3 }), (count, keys) => {
        expect(new Set(orderOf(count, keys)).size).toBe(count);
        expect(Math.max(...orderOf(count, keys))).toBe(count - 1);
      }),
    );
  });

  it("depends on every key, on all 53 bits", () => {
    const orders = [
      [1, 0],
      [0, 1],
      [1, 1],
      [2, 0],
      [1 + 2 ** 40, 0],
      [-1, 0],
    ].map((keys) => orderOf(100, keys).join());
    expect(new Set(orders).size).toBe(orders.length);
  });

  it("puts every row anywhere: each place is taken evenly over the keys (chi-squared, p = 1e-6)", () => {
    const count = 10;
    const trials = 4000;
    const counts = new Float64Array(count * count);
    for (let key = 0; key < trials; key++)
      for (const [i, place] of orderOf(count, [key, 3]).entries()) counts[i * count + place]!++;
    const expected = trials / count;
    const chi = counts.reduce((sum, seen) => sum + (seen - expected) ** 2 / expected, 0);
    expect(chi).toBeLessThan(152); // 81 degrees of freedom
  });

  it("leaves no neighbours together: a million rows, steps between successive ones as in a random order", () => {
    const count = 1_000_000;
    const order = createOrder(count, [7]);
    let sum = 0;
    for (let i = 1; i < 20_000; i++) sum += Math.abs(order(i) - order(i - 1));
    expect(sum / 19_999 / count).toBeCloseTo(1 / 3, 2);
  });

  it("reaches far beyond what an array holds", () => {
    const order = createOrder(2 ** 40 - 3, [1]);
    const places = Array.from({ length: 1000 }, (_, i) => order(i));
    expect(new Set(places).size).toBe(1000);
    expect(places.every((place) => Number.isInteger(place) && place >= 0 && place < 2 ** 40 - 3)).toBe(true);
    expect(() => createOrder(0, [1])).toThrow(RangeError);
  });
});
