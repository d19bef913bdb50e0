import { describe, expect, test } from "vitest";
import { createFakeLoader, createFakeTrainer, type FakeTrainer } from "../../../test/support/fake-trainer.ts";
import type { Loader } from "../data/loader.ts";
import { type CheckpointName, type RunSummary, runTraining } from "./loop.ts";
import type { MetricsRecord } from "./metrics.ts";
import { parseRecipe, type Recipe } from "./recipe.ts";
import { parseRunState, type RunState } from "./run-state.ts";

const recipe = parseRecipe(
  JSON.stringify({
    model: { dim: 8, layers: 1, heads: 2 },
    data: { datasets: [{ folder: "data" }], length: 4 },
    batch: { rows: 2, accumulation: 3 },
    schedule: { peak: 0.01, steps: 12 },
    evaluate: { every: 4, rows: 3 },
    sample: { every: 5, prompts: ["Once"] },
    checkpoint: { everySteps: 3, everyMinutes: 1000 },
  }),
  "recipe.json",
);
const TOKENS_PER_STEP = 2 * 3 * 4;

type Saved = { readonly state: RunState; readonly weights: string };
type World = {
  readonly records: MetricsRecord[];
  readonly saved: Map<CheckpointName, Saved>;
  readonly saves: string[];
  readonly controller: AbortController;
  trainer: FakeTrainer;
  loader: Loader;
  nowMs: number;
};

/** A run on a fake machine: a step takes 100 ms, a minute passes between saves if `minutesPerStep` says so. */
function createWorld(from?: Saved, records: readonly MetricsRecord[] = []): World {
  const weights = from && (JSON.parse(from.weights) as { steps: number; words: number[] });
  return {
    // What was written after the checkpoint is cut off, as a run's folder does.
    records: records.slice(0, from?.state.offsets.metrics ?? 0),
    saved: new Map(),
    saves: [],
    controller: new AbortController(),
    trainer: createFakeTrainer(weights),
    loader: createFakeLoader({ length: 4, seed: 1, ...(from && { position: from.state.position }) }),
    nowMs: 0,
  };
}

function run(world: World, options: { recipe?: Recipe; from?: Saved; stepMs?: number } = {}): Promise<RunSummary> {
  const { trainer, loader, records, saved, saves, controller } = world;
  const { stepMs = 100 } = options;
  return runTraining(
    options.recipe ?? recipe,
    { name: "x", parameters: 1000, shape: "tiny", flopsPerToken: 1000 },
    {
      trainer: {
        ...trainer,
        get steps() {
          return trainer.steps;
        },
        step: async (...args) => {
          const report = await trainer.step(...args);
          world.nowMs += stepMs;
          return report;
        },
      },
      loader,
      clock: { now: () => world.nowMs, date: () => 1_700_000_000_000 + world.nowMs },
      output: {
        append: async (record) => void records.push(record),
        sync: async () => ({ metrics: records.length, events: records.length }),
        save: async (name, state) => {
          saves.push(`${name}@${state.step}`);
          saved.set(name, { state: parseRunState(JSON.stringify(state), "run.json"), weights: trainer.weights() });
        },
      },
      writeSamples: async (requests) => requests.map(({ temperature }) => ` upon ${trainer.weights()} ${temperature}`),
      measurePeak: async () => 1e6,
      signal: controller.signal,
    },
    options.from?.state,
  );
}

/** Without what depends on the clock, and without starts and ends. */
function numbers(records: readonly MetricsRecord[]): unknown[] {
  return records
    .filter(({ kind }) => kind !== "start" && kind !== "end")
    .map((record) =>
      Object.fromEntries(
        Object.entries(record).filter(([key]) => !/time|PerSecond|utilisation|elapsedMs|remainingMs/.test(key)),
      ),
    );
}

async function uninterrupted(): Promise<World> {
  const world = createWorld();
  await run(world);
  return world;
}

describe("a run", () => {
  test("records the start, every step, held-out loss and samples when due, and its end", async () => {
    const { records, saves } = await uninterrupted();
    expect(records.map(({ kind, step }) => `${kind} ${step}`).join(", ")).toBe(
      "start 0, heldOut 0, step 1, step 2, step 3, step 4, heldOut 4, step 5, sample 5, sample 5, step 6, step 7, " +
        "step 8, heldOut 8, step 9, step 10, sample 10, sample 10, step 11, step 12, " +
        "heldOut 12, sample 12, sample 12, end 12",
    );
    expect(saves).toEqual(["best@0", "last@3", "best@4", "last@6", "best@8", "last@9", "last@12", "best@12"]);
  });

  test("counts tokens, speed and the time that is left", async () => {
    const world = createWorld();
    const summary = await run(world);
    const step = world.records.find((record) => record.kind === "step" && record.step === 3);
    expect(step).toMatchObject({
      tokens: 3 * TOKENS_PER_STEP,
      tokensPerSecond: 10 * TOKENS_PER_STEP,
      flopsPerSecond: 10 * TOKENS_PER_STEP * 1000,
      utilisation: 0.24,
      elapsedMs: 300,
      remainingMs: 900,
    });
    expect(summary).toMatchObject({
      reason: "finished",
      step: 12,
      tokens: 12 * TOKENS_PER_STEP,
      elapsedMs: 1200,
      utilisation: 0.24,
    });
  });

  test("gives held-out loss in bits per byte", async () => {
    const { records } = await uninterrupted();
    const heldOut = records.filter((record) => record.kind === "heldOut");
    for (const { loss, bitsPerByte, tokens } of heldOut) {
      expect(bitsPerByte).toBeCloseTo(loss / Math.log(2) / 3, 12);
      expect(tokens).toBe(3 * 4); // three rows, not the split's five
    }
  });

  test("saves the best checkpoint only when the held-out loss is lower than ever", async () => {
    const world = createWorld();
    const heldOutLosses = [4, 2, 3, 1];
    world.trainer.evaluate = async () => ({ loss: heldOutLosses[world.trainer.steps / 4]!, tokens: 1 });
    const summary = await run(world);
    expect(world.saves.filter((save) => save.startsWith("best"))).toEqual(["best@0", "best@4", "best@12"]);
    expect(world.records.filter((record) => record.kind === "heldOut").map(({ isBest }) => isBest)).toEqual([
      true,
      true,
      false,
      true,
    ]);
    expect(summary.best).toMatchObject({ step: 12, loss: 1 });
  });

  test("saves after so many minutes, whatever the step", async () => {
    const world = createWorld();
    const rare = { ...recipe, checkpoint: { everySteps: 1000, everyMinutes: 5 }, evaluate: { every: 1000, rows: 1 } };
    await run(world, { recipe: rare, stepMs: 60_000 });
    expect(world.saves).toEqual(["best@0", "last@5", "last@10", "last@12", "best@12"]);
  });

  test("averages over the steps between two lines", async () => {
    const every = await uninterrupted();
    const world = createWorld();
    await run(world, { recipe: { ...recipe, logEvery: 3 } });
    const losses = every.records.filter((record) => record.kind === "step").map(({ loss }) => loss);
    const [first] = world.records.filter((record) => record.kind === "step");
    expect(first!.step).toBe(3);
    expect(first!.loss).toBeCloseTo((losses[0]! + losses[1]! + losses[2]!) / 3, 12);
  });

  test("has nothing left to do after its end", async () => {
    const world = await uninterrupted();
    const from = world.saved.get("last")!;
    const again = createWorld(from, world.records);
    expect(await run(again, { from })).toMatchObject({ reason: "finished", step: 12, tokensPerSecond: 0 });
    expect(again.saves).toEqual([]);
    expect(numbers(again.records)).toEqual(numbers(world.records));
  });
});

describe("an interrupted run", () => {
  const moments: [string, (world: World) => void][] = [
    ...Array.from({ length: 12 }, (_, i): [string, (world: World) => void] => [
      `in the middle of step ${i + 1}`,
      (world) => (world.trainer.onStep = (step) => step === i + 1 && world.controller.abort()),
    ]),
    ["before the first step", (world) => world.controller.abort()],
    [
      "while the held-out loss is measured",
      (world) => (world.trainer.onEvaluate = () => world.trainer.steps === 8 && world.controller.abort()),
    ],
  ];

  test.each(moments)("%s goes on as if nothing had been", async (_, interrupt) => {
    const whole = await uninterrupted();
    const world = createWorld();
    interrupt(world);
    const summary = await run(world);
    expect(summary.reason).toBe("interrupted");
    expect(world.records.at(-1)).toMatchObject({ kind: "end", reason: "interrupted" });

    const from = world.saved.get("last")!;
    expect(from.state.step).toBe(summary.step);
    const resumed = createWorld(from, world.records);
    expect(await run(resumed, { from })).toMatchObject({ reason: "finished", tokens: 12 * TOKENS_PER_STEP });
    expect(resumed.trainer.weights()).toBe(whole.trainer.weights());
    expect(numbers(resumed.records)).toEqual(numbers(whole.records));
    expect(resumed.saved.get("last")!.state.best).toEqual(whole.saved.get("last")!.state.best);
  });

  test("can go on from the best checkpoint, and does the later steps again", async () => {
    const whole = await uninterrupted();
    const world = createWorld();
    world.trainer.onStep = (step) => step === 8 && world.controller.abort();
    await run(world);
    const from = world.saved.get("best")!;
    expect(from.state.step).toBe(4);
    const resumed = createWorld(from, world.records);
    await run(resumed, { from });
    expect(resumed.trainer.weights()).toBe(whole.trainer.weights());
    expect(numbers(resumed.records)).toEqual(numbers(whole.records));
  });
});

describe("a run whose loss is lost", () => {
  test("stops at a loss that is no number, and says a way on", async () => {
    const world = createWorld();
    world.trainer.lossAt = (step) => (step === 6 ? Number.NaN : undefined);
    await expect(run(world)).rejects.toThrowErrorMatchingInlineSnapshot(
      `[TrainingError: step 6: loss must be finite, got NaN. The best checkpoint is of step 4: change the recipe, and go on from there with --resume best.]`,
    );
    expect(world.saves).toEqual(["best@0", "last@3", "best@4"]);
    expect(world.records.at(-1)).toMatchObject({ kind: "end", reason: "failed", step: 5 });
  });

  test("stops at a loss that explodes", async () => {
    const world = createWorld();
    world.trainer.lossAt = (step) => (step === 6 ? 7 : undefined);
    await expect(run(world)).rejects.toThrowErrorMatchingInlineSnapshot(
      `[TrainingError: step 6: the loss must stay below 6.24 nats a token, got 7.00: it exploded. Nothing of it was saved: go on from an earlier checkpoint with a lower peak learning rate, a longer warm-up or a smaller clip. The best checkpoint is of step 4: change the recipe, and go on from there with --resume best.]`,
    );
    expect(world.saves).toEqual(["best@0", "last@3", "best@4"]);
  });

  test("lets a loss be as large as it began with, for a checkpoint that met other text", async () => {
    const world = createWorld();
    world.trainer.lossAt = () => 20;
    expect(await run(world)).toMatchObject({ reason: "finished", loss: 20 });
  });

  test("stops when the held-out loss is no number", async () => {
    const world = createWorld();
    world.trainer.evaluate = async () => ({ loss: world.trainer.steps === 8 ? Number.NaN : 1, tokens: 1 });
    await expect(run(world)).rejects.toThrow(/^step 8: the held-out loss must be finite, got NaN\./);
    expect(world.saved.get("last")!.state.step).toBe(6);
  });
});
