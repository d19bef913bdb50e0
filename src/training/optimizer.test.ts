import { expect, it } from "vitest";
import { optimizerSettings } from "../kernels/adamw/adamw.ts";
import { createOptimizer, type OptimizerOptions, settingsAt } from "./optimizer.ts";

it("corrects for moving averages that start at 0", () => {
  const optimizer = createOptimizer({ betas: [0.5, 0.75], weightDecay: 0.25, clip: null });
  const settings = settingsAt(optimizer, 1, 0.5); // the second update
  const setting = (name: keyof typeof optimizerSettings): number => settings[optimizerSettings[name]]!;
  expect(setting("keep")).toBe(1 - 0.5 * 0.25);
  expect(setting("stepSize")).toBe(Math.fround(0.5 / (1 - 0.5 ** 2)));
  expect(setting("correction")).toBe(Math.fround(Math.sqrt(1 - 0.75 ** 2)));
  expect([setting("rest1"), setting("rest2"), setting("clip")]).toEqual([0.5, 0.25, Infinity]);
});

it("has the paper's settings unless told otherwise", () => {
  const adamw = { kind: "adamw", betas: [0.9, 0.95], eps: 1e-8, weightDecay: 0.1, clip: 1 };
  expect(createOptimizer()).toEqual({ ...adamw, momentum: 0.95 });
});

it.each([
  [{ betas: [0.9] }, "optimizer.betas: expected a list of 2, got [0.9]."],
  [{ betas: [0.9, 1] }, "optimizer.betas[1]: expected a number of 0 or more, below 1, got 1."],
  [{ betas: null }, "optimizer.betas: expected a list of 2, got null."],
  [{ eps: 0 }, "optimizer.eps: expected a number above 0, got 0."],
  [{ eps: "1" }, 'optimizer.eps: expected a number above 0, got "1".'],
  [{ weightDecay: -0.1 }, "optimizer.weightDecay: expected a number of 0 or more, got -0.1."],
  [{ weightDecay: NaN }, "optimizer.weightDecay: expected a number of 0 or more, got NaN."],
  [{ kind: "sgd" }, 'optimizer.kind: expected one of adamw, muon, got "sgd".'],
  [{ momentum: 1 }, "optimizer.momentum: expected a number of 0 or more, below 1, got 1."],
  [{ clip: 0 }, "optimizer.clip: expected a number above 0, or null for none, got 0."],
  [{ clipp: 1 }, 'optimizer: unknown option "clipp". Did you mean "clip"?'],
])("refuses %j", (options, message) => {
  expect(() => createOptimizer(options as unknown as OptimizerOptions)).toThrow(message);
});
