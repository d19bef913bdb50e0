/**
 * The training loop: steps, held-out loss, samples, checkpoints. Everything it touches is handed in, so that it runs in
 * tests with a trainer, a clock and an output of their own, and on any machine.
 *
 * A checkpoint is taken only between steps, and holds the position in the data, so a run that goes on from it does the
 * same steps again, bit for bit. Held-out loss and samples of a step are recorded together or not at all.
 */
import { TrainingError } from "../../errors.ts";
import type { Loader } from "../data/loader.ts";
import type { Row } from "../rows.ts";
import type { TrainerCore } from "../trainer.ts";
import type { EndRecord, HeldOutRecord, MetricsRecord, SampleRecord, StartRecord } from "./metrics.ts";
import { type Recipe, tokensPerStep } from "./recipe.ts";
import type { BestLoss, FileOffsets, RunState } from "./run-state.ts";

export type CheckpointName = "last" | "best";

/** Where a run's metrics and checkpoints go. */
export type RunOutput = {
  append(record: MetricsRecord): Promise<void>;
  /** Everything appended is on disk when this resolves. */
  sync(): Promise<FileOffsets>;
  /** Replaces the checkpoint of that name, whole or not at all. */
  save(name: CheckpointName, state: RunState): Promise<void>;
};

export type SampleRequest = { readonly prompt: string; readonly temperature: number };

export type RunParts = {
  readonly trainer: Pick<TrainerCore, "config" | "description" | "memory" | "steps" | "step" | "evaluate">;
  readonly loader: Loader;
  readonly output: RunOutput;
  readonly clock: {
    /** Milliseconds, never going back. */
    now(): number;
    /** Milliseconds since 1970. */
    date(): number;
  };
  /** Continues texts with the weights as they are. */
  writeSamples(requests: readonly SampleRequest[], signal: AbortSignal): Promise<readonly string[]>;
  /** FLOP/s of large matrix products; what else the machine has to do counts, so it is asked again now and then. */
  measurePeak(): Promise<number>;
  /** Ends the run after a checkpoint. */
  readonly signal: AbortSignal;
  onRecord?(record: MetricsRecord): void;
};

export type RunDescription = Pick<StartRecord, "name" | "parameters" | "shape"> & {
  /** Forward and backward, for a predicted token. */
  readonly flopsPerToken: number;
};

export type RunSummary = {
  readonly reason: "finished" | "interrupted";
  readonly step: number;
  readonly steps: number;
  readonly tokens: number;
  readonly elapsedMs: number;
  /** Of the last step, nats per token. */
  readonly loss: number | undefined;
  readonly best: BestLoss | undefined;
  /** Of the steps since this start. */
  readonly tokensPerSecond: number;
  readonly flopsPerSecond: number;
  readonly utilisation: number;
};

/** A model that knows nothing loses ln V a token; one that loses half as much again as that, or as at its start, is lost. */
const EXPLOSION = 1.5;

const ADVICE =
  "Nothing of it was saved: go on from an earlier checkpoint with a lower peak learning rate, a longer warm-up or a smaller clip.";

/**
 * Trains until the schedule's end or an abort.
 * @param state of the checkpoint that the trainer and the loader were opened from; undefined at the start.
 * @throws {TrainingError} when the loss is no number or explodes: nothing of that step is saved.
 */
export async function runTraining(
  recipe: Recipe,
  description: RunDescription,
  parts: RunParts,
  state?: RunState,
): Promise<RunSummary> {
  const { trainer, loader, output, clock, signal } = parts;
  const { steps } = recipe.schedule;
  const { flopsPerToken, ...about } = description;
  let peak = await parts.measurePeak();
  const startedAt = clock.now();
  const firstStep = trainer.steps;
  const elapsedBefore = state?.elapsedMs ?? 0;
  const elapsedMs = (): number => elapsedBefore + clock.now() - startedAt;

  let position = loader.position;
  let reportedStep = state?.reportedStep ?? -1;
  let tokens = state?.tokens ?? 0;
  let firstLoss = state?.firstLoss;
  let lastLoss = state?.lastLoss;
  let best = state?.best;
  let savedAt = clock.now();
  const interval = createInterval();
  const whole = createInterval();

  async function emit(record: MetricsRecord): Promise<void> {
    await output.append(record);
    parts.onRecord?.(record);
  }

  async function save(...names: readonly CheckpointName[]): Promise<void> {
    await emitStep();
    const offsets = await output.sync();
    const saved: RunState = {
      version: 1,
      step: trainer.steps,
      reportedStep,
      tokens,
      elapsedMs: elapsedMs(),
      firstLoss,
      lastLoss,
      best,
      position,
      offsets,
    };
    for (const name of names) await output.save(name, saved);
    savedAt = clock.now();
  }

  async function takeStep(): Promise<void> {
    const from = clock.now();
    const microBatches: (readonly Row[])[] = [];
    for (let i = 0; i < recipe.batch.accumulation; i++) microBatches.push(await loader.next(recipe.batch.rows));
    const { loss, gradientNorm, learningRate } = await trainer.step(microBatches, { signal });
    position = loader.position;
    tokens += tokensPerStep(recipe);
    firstLoss ??= loss;
    lastLoss = loss;
    refuseExplosion(loss);
    const outcome = { loss, gradientNorm, learningRate, elapsedMs: clock.now() - from };
    interval.add(outcome);
    whole.add(outcome);
    if (trainer.steps % recipe.logEvery === 0) await emitStep();
  }

  function refuseExplosion(loss: number): void {
    const limit = EXPLOSION * Math.max(Math.log(trainer.config.vocabSize), firstLoss!);
    if (loss <= limit) return; // NaN is not
    throw new TrainingError(
      `step ${trainer.steps}: the loss must stay below ${limit.toFixed(2)} nats a token, got ${loss.toFixed(2)}: it exploded. ${ADVICE}`,
    );
  }

  async function emitStep(): Promise<void> {
    if (interval.steps === 0) return;
    const { loss, gradientNorm, learningRate, tokensPerSecond, flopsPerSecond, utilisation } = rates(interval);
    const stepMs = (clock.now() - startedAt) / (trainer.steps - firstStep);
    interval.clear();
    await emit({
      kind: "step",
      step: trainer.steps,
      time: clock.date(),
      loss,
      learningRate,
      gradientNorm,
      tokens,
      epoch: loader.epoch,
      tokensPerSecond,
      flopsPerSecond,
      peakFlopsPerSecond: peak,
      utilisation,
      elapsedMs: elapsedMs(),
      remainingMs: (steps - trainer.steps) * stepMs,
    });
  }

  function rates(of: Interval): ReturnType<Interval["means"]> & Throughput {
    const means = of.means();
    const tokensPerSecond = means.stepMs === 0 ? 0 : (1000 * tokensPerStep(recipe)) / means.stepMs;
    const flopsPerSecond = tokensPerSecond * flopsPerToken;
    peak = Math.max(peak, flopsPerSecond); // measured while the machine was busy
    return { ...means, tokensPerSecond, flopsPerSecond, utilisation: flopsPerSecond / peak };
  }

  /** @returns whether the held-out loss was the lowest so far. */
  async function reportStep(): Promise<boolean> {
    const step = trainer.steps;
    const isDue = (every: number): boolean => step % every === 0 || step === steps;
    const heldOut = isDue(recipe.evaluate.every) ? await measureHeldOut() : undefined;
    const samples = step > 0 && isDue(recipe.sample.every) ? await sample() : [];
    if (heldOut !== undefined || samples.length > 0) await emitStep();
    if (heldOut?.isBest) best = { step, loss: heldOut.loss, bitsPerByte: heldOut.bitsPerByte };
    if (heldOut !== undefined) await emit(heldOut);
    for (const record of samples) await emit(record);
    reportedStep = step;
    return heldOut?.isBest ?? false;
  }

  async function measureHeldOut(): Promise<HeldOutRecord | undefined> {
    let [nats, counted] = [0, 0];
    for await (const rows of loader.heldOut(recipe.evaluate.rows)) {
      const part = await trainer.evaluate(rows, { signal });
      nats += part.loss;
      counted += part.tokens;
    }
    peak = Math.max(peak, await parts.measurePeak());
    if (counted === 0) return undefined;
    const loss = nats / counted;
    if (!Number.isFinite(loss)) {
      throw new TrainingError(`step ${trainer.steps}: the held-out loss must be finite, got ${loss}. ${ADVICE}`);
    }
    return {
      kind: "heldOut",
      step: trainer.steps,
      time: clock.date(),
      loss,
      bitsPerByte: loss / Math.LN2 / loader.heldOutBytesPerToken,
      tokens: counted,
      isBest: best === undefined || loss < best.loss,
    };
  }

  async function sample(): Promise<SampleRecord[]> {
    const { prompts, temperature } = recipe.sample;
    const requests = prompts.flatMap((prompt) => [0, temperature].map((t) => ({ prompt, temperature: t })));
    if (requests.length === 0) return [];
    const texts = await parts.writeSamples(requests, signal);
    const [step, time] = [trainer.steps, clock.date()];
    return requests.map((request, i) => ({ kind: "sample", step, time, ...request, text: texts[i]! }));
  }

  async function goOn(): Promise<void> {
    for (;;) {
      signal.throwIfAborted();
      const isBest = reportedStep < trainer.steps && (await reportStep());
      const step = trainer.steps;
      const { everySteps, everyMinutes } = recipe.checkpoint;
      const isDue =
        step > firstStep &&
        (step % everySteps === 0 || step >= steps || clock.now() - savedAt >= everyMinutes * 60_000);
      if (isDue || isBest) await save(...(isDue ? (["last"] as const) : []), ...(isBest ? (["best"] as const) : []));
      if (step >= steps) return;
      await takeStep();
    }
  }

  function end(reason: EndRecord["reason"], message?: string): Promise<void> {
    const said = message === undefined ? {} : { message };
    return emit({ kind: "end", step: trainer.steps, time: clock.date(), reason, ...said });
  }

  await emit({
    kind: "start",
    step: firstStep,
    steps,
    time: clock.date(),
    ...about,
    device: trainer.description,
    memory: trainer.memory,
    tokensPerStep: tokensPerStep(recipe),
  });
  let reason: RunSummary["reason"] = "finished";
  try {
    await goOn();
  } catch (error) {
    if (error instanceof TrainingError) {
      const message = `${error.message} ${wayOn(best)}`;
      await end("failed", message);
      throw new TrainingError(message, { cause: error });
    }
    if (!signal.aborted) throw error;
    reason = "interrupted";
    await save("last");
  }
  await end(reason);
  await output.sync();
  const { tokensPerSecond, flopsPerSecond, utilisation } = rates(whole);
  return {
    reason,
    step: trainer.steps,
    steps,
    tokens,
    elapsedMs: elapsedMs(),
    loss: lastLoss,
    best,
    tokensPerSecond,
    flopsPerSecond,
    utilisation,
  };
}

function wayOn(best: BestLoss | undefined): string {
  return best === undefined || best.step === 0
    ? "Start again, in another folder."
    : `The best checkpoint is of step ${best.step}: change the recipe, and go on from there with --resume best.`;
}

type Throughput = Record<"tokensPerSecond" | "flopsPerSecond" | "utilisation", number>;
type StepOutcome = Record<"loss" | "gradientNorm" | "learningRate" | "elapsedMs", number>;
type Interval = ReturnType<typeof createInterval>;

/** Sums over the steps since the last record. */
function createInterval() {
  let [steps, loss, gradientNorm, learningRate, elapsedMs] = [0, 0, 0, 0, 0];
  return {
    get steps(): number {
      return steps;
    },
    add(outcome: StepOutcome): void {
      steps++;
      loss += outcome.loss;
      gradientNorm += outcome.gradientNorm;
      ({ learningRate } = outcome);
      elapsedMs += outcome.elapsedMs;
    },
    clear(): void {
      [steps, loss, gradientNorm, elapsedMs] = [0, 0, 0, 0];
    },
    means: (): Record<"loss" | "gradientNorm" | "learningRate" | "stepMs", number> => ({
      loss: loss / steps,
      gradientNorm: gradientNorm / steps,
      learningRate,
      stepMs: steps === 0 ? 0 : elapsedMs / steps,
    }),
  };
}
