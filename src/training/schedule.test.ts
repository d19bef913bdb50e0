import { describe, expect, it } from "vitest";
import { planLearningRate, learningRateAt, type ScheduleOptions } from "./schedule.ts";

function rates(options: ScheduleOptions, steps: readonly number[]): number[] {
  const schedule = planLearningRate({ peak: 1, ...options });
  return steps.map((step) => Number(learningRateAt(schedule, step).toFixed(12)));
}

describe("learning rates", () => {
  it("rise in a straight line and reach the peak with the last step of the warm-up", () => {
    for (const kind of ["cosine", "linear", "constant"] as const) {
      expect(rates({ kind, warmupSteps: 4, steps: 10 }, [0, 1, 2, 3, 4])).toEqual([0.25, 0.5, 0.75, 1, 1]);
    }
  });

  it("follow half a cosine down to the floor, and stay there", () => {
    const options = { kind: "cosine", steps: 12, warmupSteps: 2, floor: 0.1 } as const;
    const height = 0.1 + 0.9 * ((1 + Math.cos(Math.PI / 10)) / 2);
    expect(rates(options, [2, 3, 7, 12, 13, 1e9])).toEqual([1, Number(height.toFixed(12)), 0.55, 0.1, 0.1, 0.1]);
  });

  it("fall in a straight line", () => {
    expect(rates({ kind: "linear", steps: 4, floor: 0 }, [0, 1, 2, 3, 4, 5])).toEqual([1, 0.75, 0.5, 0.25, 0, 0]);
  });

  it("fall in the last steps only", () => {
    const options = { steps: 8, warmupSteps: 2, decaySteps: 4, floor: 0 } as const;
    expect(rates({ kind: "linear", ...options }, [0, 1, 2, 4, 5, 6, 7, 8])).toEqual([0.5, 1, 1, 1, 0.75, 0.5, 0.25, 0]);
    expect(rates({ kind: "cosine", ...options }, [3, 4, 6, 8])).toEqual([1, 1, 0.5, 0]);
    expect(rates({ kind: "linear", ...options, decaySteps: 0 }, [7, 8])).toEqual([1, 1]);
  });

  it("stay where they are", () => {
    expect(rates({ kind: "constant", peak: 3 }, [0, 1, 1e6])).toEqual([3, 3, 3]);
  });

  it("may be all warm-up", () => {
    expect(rates({ kind: "cosine", warmupSteps: 2, steps: 2, floor: 0.5 }, [0, 1, 2, 3])).toEqual([0.5, 1, 1, 0.5]);
  });
});

it.each([
  [{ kind: "step" }, 'schedule.kind: expected one of cosine, linear, constant, got "step".'],
  [{}, 'schedule.steps: "cosine" ends somewhere, got no number of steps. Give one.'],
  [{ steps: 0 }, "schedule.steps: expected a whole number of 1 or more, got 0."],
  [{ steps: 3, warmupSteps: 4 }, "schedule.warmupSteps: expected at most schedule.steps (3), got 4."],
  [{ steps: null }, "schedule.steps: expected a whole number of 1 or more, got null."],
  [{ steps: 3, warmupSteps: 0.5 }, "schedule.warmupSteps: expected a whole number of 0 or more, got 0.5."],
  [{ steps: 3, peak: 0 }, "schedule.peak: expected a number above 0, got 0."],
  [{ steps: 3, peak: Infinity }, "schedule.peak: expected a number above 0, got Infinity."],
  [
    { steps: 9, warmupSteps: 2, decaySteps: 8 },
    "schedule.decaySteps: expected at most the 7 steps after the warm-up, got 8.",
  ],
  [{ steps: 3, floor: 1.1 }, "schedule.floor: expected a number from 0 to 1, got 1.1."],
  [{ steps: 3, floor: "0.1" }, 'schedule.floor: expected a number from 0 to 1, got "0.1".'],
  [
    { steps: 3, warmup: 2 },
    'schedule: unknown option "warmup". Known: kind, peak, warmupSteps, steps, decaySteps, floor.',
  ],
])("refuses %j", (options, message) => {
  expect(() => planLearningRate(options as ScheduleOptions)).toThrow(message);
});
