/** What the page knows of a run: the records so far, by kind, in order of steps. */
import type { EndRecord, HeldOutRecord, MetricsRecord, SampleRecord, StartRecord, StepRecord } from "../metrics.ts";

/** A run's records, as the page needs them. */
export type RunData = {
  start: StartRecord | undefined;
  end: EndRecord | undefined;
  steps: StepRecord[];
  heldOut: HeldOutRecord[];
  samples: SampleRecord[];
};

/** Makes the data of a run that has said nothing yet. */
export function createRunData(): RunData {
  return { start: undefined, end: undefined, steps: [], heldOut: [], samples: [] };
}

/** Adds a record; those of steps that a resumed run does again are replaced. */
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

function append<T extends { readonly step: number }>(records: T[], record: T): void {
  cutFrom(records, record.step);
  records.push(record);
}

function cutFrom(records: { readonly step: number }[], step: number): void {
  while ((records.at(-1)?.step ?? -1) >= step) records.pop();
}

/** Computes an exponential moving average whose first values aren't drawn to 0 (as Adam's moments are corrected). */
export function smooth(values: readonly number[], decay: number): number[] {
  let [mean, weight] = [0, 0];
  return values.map((value) => {
    mean = decay * mean + (1 - decay) * value;
    weight = decay * weight + (1 - decay);
    return mean / weight;
  });
}
