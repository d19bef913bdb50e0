/** Learning rates by step. */
import * as o from "../options.ts";

export type ScheduleOptions = {
  /** Default: `cosine`. */
  readonly kind?: "cosine" | "linear" | "constant" | undefined;
  /** The highest learning rate. Default: 2e-3, the paper's. */
  readonly peak?: number | undefined;
  /** Steps of rising in a straight line; the first is at peak / warmupSteps. Default: 0. */
  readonly warmupSteps?: number | undefined;
  /** Steps in all; afterwards the rate stays at its floor. Needed for cosine and linear. */
  readonly steps?: number | undefined;
  /** How many of the last steps fall with cosine and linear; before them the rate stays at its peak. Default: all after the warm-up. */
  readonly decaySteps?: number | undefined;
  /** Where cosine and linear end, as a part of the peak. Default: 0.1, as in MobileLLM's script. */
  readonly floor?: number | undefined;
};

/** A schedule with nothing left open. */
export type Schedule = o.Filled<ScheduleOptions>;

/** A schedule whose steps are not yet checked against one another. */
export type Unplanned = Omit<Schedule, "steps" | "decaySteps"> & Pick<ScheduleOptions, "steps" | "decaySteps">;

export const scheduleEntries: o.Entries<ScheduleOptions, Unplanned> = {
  kind: o.withDefault(o.choice("cosine", "linear", "constant"), "cosine"),
  peak: o.withDefault(o.positive, 2e-3),
  warmupSteps: o.withDefault(o.wholeOrZero, 0),
  steps: o.optional(o.count),
  decaySteps: o.optional(o.wholeOrZero),
  floor: o.withDefault(o.number({ min: 0, max: 1 }), 0.1),
};

/** Keys come out in one order, however they were given: a saved trainer is the same to the byte. */
export const scheduleSchema: o.Schema<ScheduleOptions, Schedule> = o.derived(
  o.object<ScheduleOptions, Unplanned>(scheduleEntries),
  (options, refuse) => {
    const { kind, peak, warmupSteps, steps, decaySteps, floor } = planSteps(options, refuse);
    return { kind, peak, warmupSteps, steps, decaySteps, floor };
  },
);

/** Checks and fills in. @throws {RangeError} naming the field. */
export function planLearningRate(options: ScheduleOptions = {}): Schedule {
  return o.check("schedule", scheduleSchema, options);
}

/** Checks the numbers of steps against one another, and fills in those that follow. */
export function planSteps<S extends Pick<Unplanned, "kind" | "steps" | "warmupSteps" | "decaySteps">>(
  schedule: S,
  refuse: o.Refuse,
): S & Pick<Schedule, "steps" | "decaySteps"> {
  const { kind, warmupSteps } = schedule;
  if (kind !== "constant" && schedule.steps === undefined) {
    refuse("steps", `"${kind}" ends somewhere, got no number of steps. Give one.`);
  }
  const { steps = Math.max(warmupSteps, 1) } = schedule;
  if (warmupSteps > steps) refuse("warmupSteps", `expected at most schedule.steps (${steps}), got ${warmupSteps}.`);
  const most = steps - warmupSteps;
  const { decaySteps = most } = schedule;
  if (decaySteps > most)
    refuse("decaySteps", `expected at most the ${most} steps after the warm-up, got ${decaySteps}.`);
  return { ...schedule, steps, decaySteps };
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
