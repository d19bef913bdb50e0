import { describe, expect, test } from "vitest";
import type { StepRecord } from "../metrics.ts";
import { nearest, niceTicks, tracePath } from "./chart.ts";
import { formatDuration, formatNumber } from "./format.ts";
import { addRecord, createRunData, smooth } from "./run-data.ts";

describe("a path", () => {
  test("goes through every point while there are fewer than pixels", () => {
    expect(
      tracePath(
        [0, 10, 20],
        [1, 3, 2],
        (x) => x,
        (y) => y,
      ),
    ).toBe("M0.0,1.0L10.0,3.0L20.0,2.0");
  });

  test("keeps the lowest and the highest point of a column, in their order", () => {
    const x = Array.from({ length: 1000 }, (_, i) => i);
    const y = x.map((step) => (step === 500 ? 100 : step === 501 ? -100 : step % 2));
    const path = tracePath(
      x,
      y,
      (step) => step / 100,
      (value) => value,
    );
    expect(path.split(/[ML]/).length).toBeLessThan(30);
    expect(path).toContain(",100.0L");
    expect(path.indexOf(",100.0")).toBeLessThan(path.indexOf(",-100.0"));
  });
});

test.each([
  [0, 10, 5, [0, 2, 4, 6, 8, 10]],
  [0, 0.002, 4, [0, 0.0005, 0.001, 0.0015, 0.002]],
  [1.9, 8.3, 5, [2, 4, 6, 8]],
  [3, 3, 5, [3]],
])("ticks from %d to %d are round", (low, high, count, ticks) => {
  expect(niceTicks(low, high, count)).toEqual(ticks);
});

test.each([
  [[], 3, undefined],
  [[5], 3, 0],
  [[1, 2, 4, 8], 5, 2],
  [[1, 2, 4, 8], 7, 3],
  [[1, 2, 4, 8], 99, 3],
  [[1, 2, 4, 8], -1, 0],
])("of %j the nearest to %d is number %s", (values, wanted, index) => {
  expect(nearest(values, wanted)).toBe(index);
});

test("smoothing begins at the first value and follows the others", () => {
  expect(smooth([4, 4, 4], 0.9)).toEqual([4, 4, 4].map((value) => expect.closeTo(value, 12)));
  expect(smooth([1, 3], 0.5)[1]).toBeCloseTo((0.25 * 1 + 0.5 * 3) / 0.75, 12);
  expect(smooth([1, 3], 0)).toEqual([1, 3]);
});

test("a resumed run's later steps take the place of the earlier ones", () => {
  const data = createRunData();
  const step = (n: number, loss: number): StepRecord => ({ kind: "step", step: n, loss }) as StepRecord;
  for (const record of [step(1, 4), step(2, 3), step(3, 2), step(2, 2.9)]) addRecord(data, record);
  expect(data.steps.map(({ loss }) => loss)).toEqual([4, 2.9]);
});

test.each([
  [0, "0"],
  [8.25, "8.25"],
  [0.002, "0.002"],
  [1.5e-5, "1.5e-5"],
  [1000, "1k"],
  [13_420, "13.4k"],
  [100, "100"],
  [5_509_824, "5.51M"],
])("%d is shown as %s", (value, text) => {
  expect(formatNumber(value)).toBe(text);
});

test("a unit takes the prefix", () => {
  expect(formatNumber(9.2e10, "FLOP/s")).toBe("92 GFLOP/s");
});

test.each([
  [7_400, "7 s"],
  [725_000, "12 min"],
  [11_100_000, "3 h 5 min"],
  [187_200_000, "2 d 4 h"],
])("%d ms are %s", (ms, text) => {
  expect(formatDuration(ms)).toBe(text);
});
