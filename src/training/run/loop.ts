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
import type { HeldOutRecord, MetricsRecord, SampleRecord, StartRecord } from "./metrics.ts";
import { createMeter, type Meter, type Throughput } from "./meter.ts";
import { type Recipe, tokensPerStep } from "./recipe.ts";
import type { BestLoss, FileOffsets, RunState } from "./run-state.ts";

/** The checkpoints of a run: the newest one, and that of the lowest held-out loss. */
export type CheckpointName = "last" | "best";

/** Takes a run's metrics and checkpoints. */
export type RunOutput = {
  append(record: MetricsRecord): Promise<void>;
  /** Everything appended is on disk when this resolves. */
  sync(): Promise<FileOffsets>;
  /** Replaces the checkpoint of that name, whole or not at all. */
  save(name: CheckpointName, state: RunState): Promise<void>;
};

/** A text to be continued; temperature 0 is greedy. */
export type SamplePrompt = { readonly prompt: string; readonly temperature: number };

/** Everything that a run touches. */
export type RunParts = {
  readonly trainer: Pick<TrainerCore, "config" | "description" | "memory" | "steps" | "step" | "evaluate">;
  readonly loader: Loader;
  readonly output: RunOutput;
  readonly clock: {
    /** Gives milliseconds that never go back. */
    now(): number;
    /** Gives milliseconds since 1970. */
    date(): number;
  };
  /** Continues texts with the weights as they are. */
  writeSamples(requests: readonly SamplePrompt[], signal: AbortSignal): Promise<readonly string[]>;
  /** Measures the FLOP/s of large matrix products; what else the machine has to do counts, so it is asked again now and then. */
  measurePeak(): Promise<number>;
  /** Ends the run after a checkpoint. */
  readonly signal: AbortSignal;
  onRecord?(record: MetricsRecord): void;
};

/** What the run's records say of the model. */
export type RunDescription = Pick<StartRecord, "name" | "parameters" | "shape"> & {
  /** FLOP of a predicted token, forward and backward. */
  readonly flopsPerToken: number;
};

/** How a run ended; its speed is that of the steps since this start. */
export type RunSummary = Throughput & {
  readonly reason: "finished" | "interrupted";
  readonly step: number;
  readonly steps: number;
  readonly tokens: number;
  readonly elapsedMs: number;
  /** The last step's loss in nats per token. */
  readonly loss: number | undefined;
  readonly best: BestLoss | undefined;
};

/** A model that knows nothing loses ln V a token; one that loses half as much again as that, or as at its start, is lost. */
const EXPLOSION = 1.5;

const ADVICE =
  "Nothing of it was saved: go on from an earlier checkpoint with a lower peak learning rate, a longer warm-up or a smaller clip.";

/** A run on its way: what it was given, and what changes from step to step. */
type Run = {
  readonly recipe: Recipe;
  readonly parts: RunParts;
  readonly meter: Meter;
  /** Steps that were done before this start. */
  readonly firstStep: number;
  readonly startedAt: number;
  readonly elapsedBeforeMs: number;
  savedAt: number;
  /** The state as the next checkpoint will have it. */
  state: Omit<RunState, "version" | "step" | "elapsedMs" | "offsets">;
};

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
  const { flopsPerToken, ...about } = description;
  const meter = createMeter(tokensPerStep(recipe), flopsPerToken, await parts.measurePeak());
  const startedAt = clock.now();
  const run: Run = {
    recipe,
    parts,
    meter,
    firstStep: trainer.steps,
    startedAt,
    elapsedBeforeMs: state?.elapsedMs ?? 0,
    savedAt: startedAt,
    state: {
      reportedStep: state?.reportedStep ?? -1,
      tokens: state?.tokens ?? 0,
      firstLoss: state?.firstLoss,
      lastLoss: state?.lastLoss,
      best: state?.best,
      position: loader.position,
    },
  };
  await emit(run, {
    kind: "start",
    step: run.firstStep,
    steps: recipe.schedule.steps,
    time: clock.date(),
    ...about,
    device: trainer.description,
    memory: trainer.memory,
    tokensPerStep: tokensPerStep(recipe),
  });
  let reason: RunSummary["reason"] = "finished";
  try {
    await takeSteps(run);
  } catch (error) {
    if (error instanceof TrainingError) {
      const message = `${error.message} ${wayOn(run.state.best)}`;
      await emit(run, { kind: "end", step: trainer.steps, time: clock.date(), reason: "failed", message });
      throw new TrainingError(message, { cause: error });
    }
    if (!signal.aborted) throw error;
    reason = "interrupted";
    await save(run, ["last"]);
  }
  await emit(run, { kind: "end", step: trainer.steps, time: clock.date(), reason });
  await output.sync();
  const { tokens, lastLoss: loss, best } = run.state;
  const { steps } = recipe.schedule;
  return { reason, step: trainer.steps, steps, tokens, elapsedMs: elapsedMs(run), loss, best, ...meter.sinceStart() };
}

async function takeSteps(run: Run): Promise<void> {
  const { recipe, parts, firstStep } = run;
  const { trainer, clock, signal } = parts;
  const { steps } = recipe.schedule;
  const { everySteps, everyMinutes } = recipe.checkpoint;
  for (;;) {
    signal.throwIfAborted();
    const isBest = run.state.reportedStep < trainer.steps && (await reportStep(run));
    const step = trainer.steps;
    const isDue =
      step > firstStep &&
      (step % everySteps === 0 || step >= steps || clock.now() - run.savedAt >= everyMinutes * 60_000);
    if (isDue || isBest)
      await save(run, [...(isDue ? (["last"] as const) : []), ...(isBest ? (["best"] as const) : [])]);
    if (step >= steps) return;
    await takeStep(run);
  }
}

async function takeStep(run: Run): Promise<void> {
  const { recipe, parts, meter } = run;
  const { trainer, loader, clock, signal } = parts;
  const from = clock.now();
  const microBatches: (readonly Row[])[] = [];
  for (let i = 0; i < recipe.batch.accumulation; i++) microBatches.push(await loader.next(recipe.batch.rows));
  const { loss, gradientNorm, learningRate } = await trainer.step(microBatches, { signal });
  const { tokens, firstLoss = loss } = run.state;
  run.state = {
    ...run.state,
    position: loader.position,
    tokens: tokens + tokensPerStep(recipe),
    firstLoss,
    lastLoss: loss,
  };
  refuseExplosion(trainer, loss, firstLoss);
  meter.add({ loss, gradientNorm, learningRate, elapsedMs: clock.now() - from });
  if (trainer.steps % recipe.logEvery === 0) await emitStep(run);
}

function refuseExplosion({ config, steps }: RunParts["trainer"], loss: number, firstLoss: number): void {
  const limit = EXPLOSION * Math.max(Math.log(config.vocabSize), firstLoss);
  if (loss <= limit) return; // NaN is not
  throw new TrainingError(
    `step ${steps}: the loss must stay below ${limit.toFixed(2)} nats a token, got ${loss.toFixed(2)}: it exploded. ${ADVICE}`,
  );
}

/** Measures held-out loss and writes samples where they are due. Returns whether that loss was the lowest so far. */
async function reportStep(run: Run): Promise<boolean> {
  const { recipe, parts } = run;
  const step = parts.trainer.steps;
  const isDue = (every: number): boolean => step % every === 0 || step === recipe.schedule.steps;
  const heldOut = isDue(recipe.evaluate.every) ? await measureHeldOut(run) : undefined;
  const samples = step > 0 && isDue(recipe.sample.every) ? await writeSamples(recipe, parts) : [];
  if (heldOut !== undefined || samples.length > 0) await emitStep(run);
  const isBest = heldOut?.isBest ?? false;
  if (heldOut !== undefined) await emit(run, heldOut);
  for (const record of samples) await emit(run, record);
  const best = heldOut && isBest ? { step, loss: heldOut.loss, bitsPerByte: heldOut.bitsPerByte } : run.state.best;
  run.state = { ...run.state, best, reportedStep: step };
  return isBest;
}

async function measureHeldOut({ recipe, parts, meter, state }: Run): Promise<HeldOutRecord | undefined> {
  const { trainer, loader, clock, signal } = parts;
  let [nats, counted] = [0, 0];
  for await (const rows of loader.heldOut(recipe.evaluate.rows)) {
    const part = await trainer.evaluate(rows, { signal });
    nats += part.loss;
    counted += part.tokens;
  }
  meter.raisePeak(await parts.measurePeak());
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
    isBest: state.best === undefined || loss < state.best.loss,
  };
}

/** Each prompt is continued greedily, and at the recipe's temperature. */
async function writeSamples({ sample }: Recipe, parts: RunParts): Promise<SampleRecord[]> {
  const requests = sample.prompts.flatMap((prompt) =>
    [0, sample.temperature].map((temperature) => ({ prompt, temperature })),
  );
  if (requests.length === 0) return [];
  const texts = await parts.writeSamples(requests, parts.signal);
  const [step, time] = [parts.trainer.steps, parts.clock.date()];
  return requests.map((request, i) => ({ kind: "sample", step, time, ...request, text: texts[i]! }));
}

async function save(run: Run, names: readonly CheckpointName[]): Promise<void> {
  const { trainer, output, clock } = run.parts;
  await emitStep(run);
  const offsets = await output.sync();
  const saved: RunState = { version: 1, step: trainer.steps, elapsedMs: elapsedMs(run), ...run.state, offsets };
  for (const name of names) await output.save(name, saved);
  run.savedAt = clock.now();
}

/** Records the steps since the last such record, if there are any. */
async function emitStep(run: Run): Promise<void> {
  const { recipe, parts, meter, firstStep, startedAt } = run;
  const { trainer, loader, clock } = parts;
  if (meter.steps === 0) return;
  const { loss, learningRate, gradientNorm, tokensPerSecond, flopsPerSecond, utilisation } = meter.take();
  const stepMs = (clock.now() - startedAt) / (trainer.steps - firstStep);
  await emit(run, {
    kind: "step",
    step: trainer.steps,
    time: clock.date(),
    loss,
    learningRate,
    gradientNorm,
    tokens: run.state.tokens,
    epoch: loader.epoch,
    tokensPerSecond,
    flopsPerSecond,
    peakFlopsPerSecond: meter.peakFlopsPerSecond,
    utilisation,
    elapsedMs: elapsedMs(run),
    remainingMs: (recipe.schedule.steps - trainer.steps) * stepMs,
  });
}

async function emit({ parts }: Run, record: MetricsRecord): Promise<void> {
  await parts.output.append(record);
  parts.onRecord?.(record);
}

function elapsedMs({ parts, startedAt, elapsedBeforeMs }: Run): number {
  return elapsedBeforeMs + parts.clock.now() - startedAt;
}

function wayOn(best: BestLoss | undefined): string {
  return best === undefined || best.step === 0
    ? "Start again, in another folder."
    : `The best checkpoint is of step ${best.step}: change the recipe, and go on from there with --resume best.`;
}
