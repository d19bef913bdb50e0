/** What the page knows of a run: the records so far, by kind, in order of steps. */
import type { EndRecord, HeldOutRecord, MetricsRecord, SampleRecord, StartRecord, StepRecord } from "../metrics.ts";

export type RunData = {
  start: StartRecord | undefined;
  end: EndRecord | undefined;
  steps: StepRecord[];
  heldOut: HeldOutRecord[];
  samples: SampleRecord[];
};

export function createRunData(): RunData {
  return { start: undefined, end: undefined, steps: [], heldOut: [], samples: [] };
}

export function addRecord(data: RunData, record: MetricsRecord): void {
  switch (record.kind) {
    case "start":
      data.start = record;
      data.end = undefined;
      return;
    case "end":
      data.end = record;
      return;
    case "step":
      append(data.steps, record);
      return;
    case "heldOut":
      append(data.heldOut, record);
      return;
    case "sample":
      cutFrom(data.samples, record.step + 1);
      data.samples.push(record);
      return;
  }
}

/** A run that was resumed does its later steps again. */
function append<T extends { readonly step: number }>(records: T[], record: T): void {
  cutFrom(records, record.step);
  records.push(record);
}

function cutFrom(records: { readonly step: number }[], step: number): void {
  while (records.length > 0 && records.at(-1)!.step >= step) records.pop();
}

/** Exponential moving average whose first values aren't drawn to 0 (as Adam's moments are corrected). */
export function smooth(values: readonly number[], decay: number): number[] {
  let [mean, weight] = [0, 0];
  return values.map((value) => {
    mean = decay * mean + (1 - decay) * value;
    weight = decay * weight + (1 - decay);
    return mean / weight;
  });
}

/** `7 s`, `12 min`, `3 h 5 min`, `2 d 4 h`. */
export function formatDuration(ms: number): string {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return `${Math.round(ms / 1000)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 24 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Three or four digits, with a prefix for large numbers and before a unit: `12.3k`, `410 GFLOP/s`; `1.2e-5`. */
export function formatNumber(value: number, unit = ""): string {
  const size = Math.abs(value);
  const [scale, prefix] = prefixes.find(([limit]) => size >= limit) ?? [1, ""];
  const digits =
    size >= 1e-4 || size === 0 ? trim((value / scale).toPrecision(scale === 1 ? 4 : 3)) : exponential(value);
  return `${digits}${unit === "" ? "" : " "}${prefix}${unit}`;
}

const prefixes = [
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
] as const;

function trim(digits: string): string {
  return digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits;
}

function exponential(value: number): string {
  const [digits, power] = value.toExponential(2).split("e") as [string, string];
  return `${trim(digits)}e${power}`;
}
