/** Learning rates by step. */
import { refuseUnknownKeys } from "../errors.ts";

export type ScheduleOptions = {
  /** Default: `cosine`. */
  readonly kind?: "cosine" | "linear" | "constant";
  /** The highest learning rate. Default: 2e-3, the paper's. */
  readonly peak?: number;
  /** Steps of rising in a straight line; the first is at peak / warmupSteps. Default: 0. */
  readonly warmupSteps?: number;
  /** Steps in all; afterwards the rate stays at its floor. Needed for cosine and linear. */
  readonly steps?: number;
  /** Of cosine and linear: how many of the last steps fall; before them the rate stays at its peak. Default: all after the warm-up. */
  readonly decaySteps?: number;
  /** Where cosine and linear end, as a part of the peak. Default: 0.1, as in MobileLLM's script. */
  readonly floor?: number;
};

export type Schedule = Required<ScheduleOptions>;

/** Checks and fills in. @throws {RangeError} naming the field. */
export function createSchedule(options: ScheduleOptions = {}): Schedule {
  refuseUnknownKeys("schedule", options, ["kind", "peak", "warmupSteps", "steps", "decaySteps", "floor"]);
  const { kind = "cosine", peak = 2e-3, warmupSteps = 0, floor = 0.1 } = options;
  const kinds = ["cosine", "linear", "constant"];
  if (!kinds.includes(kind)) {
    throw new RangeError(`schedule.kind: expected one of ${kinds.join(", ")}, got ${JSON.stringify(kind)}.`);
  }
  if (kind !== "constant" && options.steps === undefined) {
    throw new RangeError(`schedule.steps: "${kind}" ends somewhere, got no number of steps. Give one.`);
  }
  const { steps = Math.max(warmupSteps, 1) } = options;
  const { decaySteps = steps - warmupSteps } = options;
  const rules: readonly (readonly [keyof Schedule, number, boolean, string])[] = [
    ["peak", peak, peak > 0 && Number.isFinite(peak), "a positive number"],
    ["warmupSteps", warmupSteps, Number.isInteger(warmupSteps) && warmupSteps >= 0, "a whole number from 0"],
    [
      "steps",
      steps,
      Number.isInteger(steps) && steps >= warmupSteps && steps > 0,
      `at least warmupSteps (${warmupSteps}) and 1`,
    ],
    [
      "decaySteps",
      decaySteps,
      Number.isInteger(decaySteps) && decaySteps >= 0 && decaySteps <= steps - warmupSteps,
      `a whole number from 0 to steps - warmupSteps (${steps - warmupSteps})`,
    ],
    ["floor", floor, Number.isFinite(floor) && floor >= 0 && floor <= 1, "a part of the peak, 0 to 1"],
  ];
  for (const [key, value, holds, rule] of rules) {
    if (!holds) throw new RangeError(`schedule.${key}: expected ${rule}, got ${String(value)}.`);
  }
  return { kind, peak, warmupSteps, steps, decaySteps, floor };
}

/** @param step updates done before this one, from 0. */
export function learningRateAt(schedule: Schedule, step: number): number {
  const { kind, peak, warmupSteps, steps, decaySteps, floor } = schedule;
  if (step < warmupSteps) return (peak * (step + 1)) / warmupSteps;
  if (kind === "constant") return peak;
  const progress = Math.min(1, Math.max(0, step - (steps - decaySteps)) / Math.max(1, decaySteps));
  const height = kind === "linear" ? 1 - progress : (1 + Math.cos(Math.PI * progress)) / 2;
  return peak * (floor + (1 - floor) * height);
}
