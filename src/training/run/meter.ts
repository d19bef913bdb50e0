/** What the steps of a run come to: means since the last record, and how fast they were beside the machine's peak. */

/** One step, as the trainer and the clock tell it. */
export type StepOutcome = {
  readonly loss: number;
  readonly gradientNorm: number;
  readonly learningRate: number;
  readonly elapsedMs: number;
};

/** A speed; `utilisation` is its share of the peak, 0 to 1. */
export type Throughput = {
  readonly tokensPerSecond: number;
  readonly flopsPerSecond: number;
  readonly utilisation: number;
};

/** Adds up what steps tell. */
export type Meter = {
  /** Counts the steps since the last `take`. */
  readonly steps: number;
  /** The fastest that this machine was seen to be. */
  readonly peakFlopsPerSecond: number;
  add(outcome: StepOutcome): void;
  /** Gives the means over the steps since it was last called (of the learning rate, the newest) and their speed. */
  take(): Omit<StepOutcome, "elapsedMs"> & Throughput;
  /** Gives the speed of all steps. */
  sinceStart(): Throughput;
  /** Takes note of a measurement. */
  raisePeak(flopsPerSecond: number): void;
};

/** Makes a meter at the start of a run. @param flopsPerToken forward and backward, for a predicted token. */
export function createMeter(tokensPerStep: number, flopsPerToken: number, measuredPeak: number): Meter {
  let peak = measuredPeak;
  let [steps, loss, gradientNorm, learningRate, elapsedMs] = [0, 0, 0, 0, 0];
  let [allSteps, allElapsedMs] = [0, 0];

  function throughput(count: number, ms: number): Throughput {
    const tokensPerSecond = ms === 0 ? 0 : (1000 * tokensPerStep) / (ms / count);
    const flopsPerSecond = tokensPerSecond * flopsPerToken;
    peak = Math.max(peak, flopsPerSecond); // measured while the machine was busy
    return { tokensPerSecond, flopsPerSecond, utilisation: flopsPerSecond / peak };
  }

  return {
    get steps() {
      return steps;
    },
    get peakFlopsPerSecond() {
      return peak;
    },
    add(outcome) {
      steps++;
      loss += outcome.loss;
      gradientNorm += outcome.gradientNorm;
      ({ learningRate } = outcome);
      elapsedMs += outcome.elapsedMs;
      allSteps++;
      allElapsedMs += outcome.elapsedMs;
    },
    take() {
      const means = { loss: loss / steps, gradientNorm: gradientNorm / steps, learningRate };
      const speed = throughput(steps, elapsedMs);
      [steps, loss, gradientNorm, elapsedMs] = [0, 0, 0, 0];
      return { ...means, ...speed };
    },
    sinceStart: () => throughput(allSteps, allElapsedMs),
    raisePeak(flopsPerSecond) {
      peak = Math.max(peak, flopsPerSecond);
    },
  };
}
