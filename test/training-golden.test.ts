/**
 * The trainer against goldens from transformers and torch (test/fixtures/training), on every device and thread count; and what
 * must hold to the bit: threads, recomputing activations, and stopping in between change no number.
 */
import { readFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Device, loadModel, openCheckpoint, type Sharing } from "mobilellm";
import { createTrainer, TrainingError, type Row, type Trainer, type CreateTrainerOptions } from "mobilellm/training";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Checkpoint, readTensor } from "../src/formats/checkpoint.ts";
import { trainingCheckpoint } from "./support/fixture-weights.ts";

/** Of a flattened tensor: its norm, Σ x[i]·sin(0.7 i + 0.3), its first four entries. */
type Digest = { readonly norm: number; readonly probe: number; readonly first: readonly number[] };

type Golden = { readonly name: string; readonly config: object; readonly sharing: Sharing; readonly seed: number };

type GradientGolden = Golden & {
  readonly rows: readonly (readonly number[])[];
  readonly learn?: readonly (readonly number[])[];
  readonly loss: number;
  readonly gradient_norm: number;
  readonly gradients: Readonly<Record<string, Digest>>;
};

/** Batches and masks: step, micro-batch, row, T + 1. */
type RunGolden = Golden & {
  readonly schedule: {
    readonly kind: "cosine" | "linear" | "constant";
    readonly peak: number;
    readonly warmup_steps: number;
    readonly steps: number;
    readonly floor: number;
  };
  readonly betas: readonly [number, number];
  readonly eps: number;
  readonly weight_decay: number;
  readonly clip: number;
  readonly batches: readonly (readonly (readonly (readonly number[])[])[])[];
  readonly learn?: readonly (readonly (readonly (readonly number[])[])[])[];
  readonly losses: readonly number[];
  readonly gradient_norms: readonly number[];
  readonly learning_rates: readonly number[];
  readonly final_parameters: Readonly<Record<string, Digest>>;
};

function readGoldens<T>(file: string, key: string): T[] {
  const url = new URL(`fixtures/training/${file}`, import.meta.url);
  return (JSON.parse(readFileSync(url, "utf8")) as Record<string, T[]>)[key]!;
}
const models = readGoldens<GradientGolden>("gradients.json", "models");
const runs = readGoldens<RunGolden>("training.json", "runs");

const devices: readonly (readonly [string, Device, number])[] = [
  ["wasm with 1 thread", "wasm", 1],
  ["wasm with 2 threads", "wasm", 2],
  ["the reference device", "reference", 1],
];

/** torch's own gradients in f32 are up to 3e-6 of a tensor's norm away from those in f64. */
const GRADIENT_TOLERANCE = 2e-5;
const LOSS_TOLERANCE = 1e-5;
/** Of one-token rows: attention to oneself alone has no gradient, but rounding. */
const ZERO = 1e-6;
/** torch's own runs in f32 drift up to 1e-5 from those in f64. */
const RUN_TOLERANCE = 5e-5;

const constant = { kind: "constant", peak: 1e-3, warmupSteps: 0, steps: 100, floor: 1 } as const;
const adamw = { betas: [0.9, 0.95], eps: 1e-8, weightDecay: 0.1, clip: 1 } as const;

/** Opens a trainer, and disposes of it whatever happens. */
async function withTrainer<T>(options: CreateTrainerOptions, use: (trainer: Trainer) => Promise<T>): Promise<T> {
  const trainer = await createTrainer(options);
  try {
    return await use(trainer);
  } finally {
    await trainer.dispose();
  }
}

/** Recomputing is off, so that turning it on is a difference. */
function optionsOf(golden: GradientGolden, device: Device, threads: number): CreateTrainerOptions {
  return {
    model: trainingCheckpoint(golden.config, golden.seed),
    sharing: golden.sharing,
    optimizer: adamw,
    schedule: constant,
    rows: golden.rows.length,
    length: golden.rows[0]!.length - 1,
    recompute: false,
    device,
    threads,
  };
}

function runOptionsOf(golden: RunGolden, device: Device, threads: number): CreateTrainerOptions {
  const { kind, peak, warmup_steps, steps, floor } = golden.schedule;
  return {
    model: trainingCheckpoint(golden.config, golden.seed),
    sharing: golden.sharing,
    optimizer: { betas: golden.betas, eps: golden.eps, weightDecay: golden.weight_decay, clip: golden.clip },
    schedule: { kind, peak, warmupSteps: warmup_steps, steps, floor },
    rows: golden.batches[0]![0]!.length,
    length: golden.batches[0]![0]![0]!.length - 1,
    recompute: false,
    device,
    threads,
  };
}

function rowsOf(rows: readonly (readonly number[])[], learn?: readonly (readonly number[])[]): Row[] {
  return rows.map((tokens, i) => (learn ? { tokens, learn: learn[i]! } : tokens));
}

function microBatchesOf({ batches, learn }: RunGolden, step: number): Row[][] {
  return batches[step]!.map((rows, i) => rowsOf(rows, learn?.[step]?.[i]));
}

function expectDigest(name: string, values: Float32Array, expected: Digest, tolerance: number): void {
  let squares = 0;
  let probe = 0;
  values.forEach((value, i) => {
    squares += value * value;
    probe += value * Math.sin(0.7 * i + 0.3);
  });
  const allowed = tolerance * expected.norm + ZERO;
  const errors = [
    Math.sqrt(squares) - expected.norm,
    probe - expected.probe,
    ...expected.first.map((value, i) => values[i]! - value),
  ];
  const isClose = errors.every((error) => Math.abs(error) <= allowed);
  expect(isClose, `${name}: norm, probe and first entries are off by ${errors.join(", ")}`).toBe(true);
}

async function weightsOf(checkpoint: Checkpoint): Promise<Map<string, Float32Array>> {
  const weights = new Map<string, Float32Array>();
  for (const [name, entry] of checkpoint.tensors) {
    expect(entry.encoding).toBe("F32");
    weights.set(name, new Float32Array((await readTensor(entry)).buffer));
  }
  return weights;
}

/** Names of the tensors that are not equal to the bit, or are in one map only. */
function differences(
  some: ReadonlyMap<string, Float32Array>,
  others: ReadonlyMap<string, Float32Array>,
): readonly string[] {
  const bytesOf = (values: Float32Array): Buffer => Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  return [...new Set([...some.keys(), ...others.keys()])].filter((name) => {
    const [a, b] = [some.get(name), others.get(name)];
    return !a || !b || !bytesOf(a).equals(bytesOf(b));
  });
}

describe.each(models.map((golden) => [golden.name, golden] as const))("gradients: %s", (_, golden) => {
  const rows = rowsOf(golden.rows, golden.learn);
  const trainers = new Map<string, Trainer>();
  const onTwoThreads = (): Trainer => trainers.get("wasm with 2 threads")!;
  beforeAll(async () => {
    for (const [on, device, threads] of devices) {
      trainers.set(on, await createTrainer(optionsOf(golden, device, threads)));
    }
  });
  afterAll(async () => {
    await Promise.all([...trainers.values()].map((trainer) => trainer.dispose()));
  });

  describe.each(devices)("on %s", (on) => {
    it("has the golden's gradient of every tensor", async () => {
      const gradients = await trainers.get(on)!.gradients(rows);
      expect([...gradients.keys()].toSorted()).toEqual(Object.keys(golden.gradients).toSorted());
      for (const [name, values] of gradients) {
        expectDigest(name, values, golden.gradients[name]!, GRADIENT_TOLERANCE);
      }
    });

    it("has the golden's loss, over the targets that count", async () => {
      const { loss, tokens } = await trainers.get(on)!.evaluate(rows);
      const counted = golden.rows.flatMap((row, i) => row.slice(1).map((_, t) => golden.learn?.[i]![t + 1] ?? 1));
      expect(tokens).toBe(counted.reduce((a, b) => a + b, 0));
      expect(Math.abs(loss / tokens - golden.loss)).toBeLessThan(LOSS_TOLERANCE);
    });
  });

  it("has the same gradients, to the bit, with one thread as with two", async () => {
    const one = await trainers.get("wasm with 1 thread")!.gradients(rows);
    expect(differences(one, await onTwoThreads().gradients(rows))).toEqual([]);
  });

  it("has the same gradients, to the bit, when activations are computed again", async () => {
    const expected = await onTwoThreads().gradients(rows);
    await withTrainer({ ...optionsOf(golden, "wasm", 2), recompute: true }, async (trainer) => {
      expect(differences(await trainer.gradients(rows), expected)).toEqual([]);
    });
  });

  it("changes nothing by looking", async () => {
    const before = await onTwoThreads().gradients(rows);
    await onTwoThreads().evaluate(rows);
    expect(differences(await onTwoThreads().gradients(rows), before)).toEqual([]);
    expect(onTwoThreads().steps).toBe(0);
  });

  it("reports the golden's loss and gradient norm for its first step", async () => {
    await withTrainer(optionsOf(golden, "wasm", 2), async (trainer) => {
      const { loss, gradientNorm, learningRate } = await trainer.step([rows]);
      expect(Math.abs(loss - golden.loss)).toBeLessThan(LOSS_TOLERANCE);
      expect(Math.abs(gradientNorm / golden.gradient_norm - 1)).toBeLessThan(GRADIENT_TOLERANCE);
      expect(learningRate).toBe(constant.peak);
      expect(trainer.steps).toBe(1);
    });
  });
});

describe.each(runs.map((golden) => [golden.name, golden] as const))("training: %s", (_, golden) => {
  const count = golden.batches.length;
  const whole = new Map<string, Map<string, Float32Array>>();

  it.each(devices)("takes the golden's steps on %s", async (on, device, threads) => {
    await withTrainer(runOptionsOf(golden, device, threads), async (trainer) => {
      for (let step = 0; step < count; step++) {
        const { loss, gradientNorm, learningRate } = await trainer.step(microBatchesOf(golden, step));
        expect(Math.abs(loss - golden.losses[step]!), `loss of step ${step}`).toBeLessThan(LOSS_TOLERANCE);
        const ratio = gradientNorm / golden.gradient_norms[step]!;
        expect(Math.abs(ratio - 1), `gradient norm of step ${step}`).toBeLessThan(RUN_TOLERANCE);
        expect(learningRate).toBeCloseTo(golden.learning_rates[step]!, 12);
      }
      expect(trainer.steps).toBe(count);
      const weights = await weightsOf(await trainer.checkpoint());
      expect([...weights.keys()].toSorted()).toEqual(Object.keys(golden.final_parameters).toSorted());
      for (const [name, values] of weights) {
        expectDigest(name, values, golden.final_parameters[name]!, RUN_TOLERANCE);
      }
      whole.set(on, weights);
    });
  });

  it("ends in the same weights, to the bit, with one thread as with two", () => {
    expect(differences(whole.get("wasm with 1 thread")!, whole.get("wasm with 2 threads")!)).toEqual([]);
  });

  it("ends in the same weights, to the bit, when activations are computed again", async () => {
    await withTrainer({ ...runOptionsOf(golden, "wasm", 2), recompute: true }, async (trainer) => {
      for (let step = 0; step < count; step++) await trainer.step(microBatchesOf(golden, step));
      const weights = await weightsOf(await trainer.checkpoint());
      expect(differences(weights, whole.get("wasm with 2 threads")!)).toEqual([]);
    });
  });

  it("ends in the same weights, to the bit, when it was saved, closed and resumed on the way", async () => {
    const folder = await mkdtemp(join(tmpdir(), "mobilellm-"));
    try {
      const saved = join(folder, "checkpoint");
      const { rows, length, threads, ...first } = runOptionsOf(golden, "wasm", 2);
      const until = Math.floor(count / 3);
      await withTrainer({ ...first, rows, length, threads }, async (trainer) => {
        for (let step = 0; step < until; step++) await trainer.step(microBatchesOf(golden, step));
        await trainer.save(saved);
      });
      // Resumed twice, the second time over the first's folder and on one thread.
      await withTrainer({ resume: saved, rows, length, threads: 2 }, async (trainer) => {
        expect(trainer.steps).toBe(until);
        for (let step = until; step < 2 * until; step++) await trainer.step(microBatchesOf(golden, step));
        await trainer.save(saved);
      });
      await withTrainer({ resume: saved, rows, length, threads: 1 }, async (trainer) => {
        for (let step = 2 * until; step < count; step++) await trainer.step(microBatchesOf(golden, step));
        const weights = await weightsOf(await trainer.checkpoint());
        expect(differences(weights, whole.get("wasm with 2 threads")!)).toEqual([]);
      });
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it("saves a folder that loads as a model with the trained weights", async () => {
    const folder = await mkdtemp(join(tmpdir(), "mobilellm-"));
    try {
      const rows = microBatchesOf(golden, 0)[0]!;
      const saved = join(folder, "checkpoint");
      const { weights, loss, tokens } = await withTrainer(runOptionsOf(golden, "wasm", 2), async (trainer) => {
        for (let step = 0; step < 3; step++) await trainer.step(microBatchesOf(golden, step));
        await trainer.save(saved);
        return { weights: await weightsOf(await trainer.checkpoint()), ...(await trainer.evaluate(rows)) };
      });
      const checkpoint = await openCheckpoint(saved);
      expect(differences(await weightsOf(checkpoint), weights)).toEqual([]);
      await checkpoint.close();
      const model = await loadModel(saved);
      expect(model.dtype).toBe("f32");
      expect(model.config.sharing).toEqual(golden.sharing);
      const requests = golden.batches[0]![0]!.flatMap((row, i) =>
        row
          .slice(1)
          .flatMap((_, t) =>
            (golden.learn?.[0]![0]![i]![t + 1] ?? 1) === 1
              ? [{ context: row.slice(0, t + 1), continuation: row.slice(t + 1, t + 2) }]
              : [],
          ),
      );
      const scores = await model.score(requests);
      await model.dispose();
      expect(scores.length).toBe(tokens);
      const nats = scores.reduce((sum, { logprob }) => sum - logprob, 0);
      expect(Math.abs(nats - loss) / tokens).toBeLessThan(LOSS_TOLERANCE);
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});

describe("accumulation", () => {
  const golden = models.find(({ name }) => name === "reverse ×4, own")!;
  const batch = [0, 1].flatMap((shift) => golden.rows.map((row) => row.map((token) => (token + 31 * shift) % 157)));

  it("takes the same steps in four micro-batches of one row as in one of four, within rounding", async () => {
    const [four, one] = await Promise.all(
      [batch.map((row) => [row]), [batch]].map((microBatches) =>
        withTrainer({ ...optionsOf(golden, "wasm", 2), rows: microBatches[0]!.length }, async (trainer) => {
          const reports = [];
          for (let step = 0; step < 4; step++) reports.push(await trainer.step(microBatches));
          return { reports, weights: await weightsOf(await trainer.checkpoint()) };
        }),
      ),
    );
    for (let step = 0; step < 4; step++) {
      expect(Math.abs(four!.reports[step]!.loss - one!.reports[step]!.loss)).toBeLessThan(LOSS_TOLERANCE);
      const ratio = four!.reports[step]!.gradientNorm / one!.reports[step]!.gradientNorm;
      expect(Math.abs(ratio - 1)).toBeLessThan(GRADIENT_TOLERANCE);
    }
    for (const [name, values] of four!.weights) {
      const other = one!.weights.get(name)!;
      const squares = values.reduce((sum, value, i) => sum + (value - other[i]!) ** 2, 0);
      const norm = Math.hypot(...other);
      expect(Math.sqrt(squares) / norm, name).toBeLessThan(RUN_TOLERANCE);
    }
  });

  it("makes room for larger micro-batches than it was opened for, and changes no bit by that", async () => {
    const [small, large] = [batch.slice(0, 1).map((row) => row.slice(0, 9)), batch];
    const weights: Map<string, Float32Array>[] = [];
    for (const room of [
      { rows: 4, length: 23 },
      { rows: 1, length: 8 },
    ]) {
      await withTrainer({ ...optionsOf(golden, "wasm", 2), ...room }, async (trainer) => {
        await trainer.step([small]);
        await trainer.step([small, large, small]);
        weights.push(await weightsOf(await trainer.checkpoint()));
      });
    }
    expect(differences(weights[0]!, weights[1]!)).toEqual([]);
  });
});

describe("a step that fails", () => {
  const golden = models.find(({ name }) => name === "some targets count")!;
  const rows = rowsOf(golden.rows, golden.learn);

  it("leaves weights, gradients and moments as they were when it is cancelled", async () => {
    await withTrainer(optionsOf(golden, "wasm", 2), async (trainer) => {
      await expect(trainer.step([rows, rows], { signal: AbortSignal.abort() })).rejects.toThrow(/abort/);
      expect(trainer.steps).toBe(0);
      await trainer.step([rows]);
      const after = await weightsOf(await trainer.checkpoint());
      await withTrainer(optionsOf(golden, "wasm", 2), async (other) => {
        await other.step([rows]);
        expect(differences(after, await weightsOf(await other.checkpoint()))).toEqual([]);
      });
    });
  });

  it("says so when the loss is not finite, and leaves the weights as they were", async () => {
    const options = { ...optionsOf(golden, "wasm", 2), schedule: { ...constant, peak: 1e30 } };
    await withTrainer(options, async (trainer) => {
      await trainer.step([rows]);
      const before = await weightsOf(await trainer.checkpoint());
      await expect(trainer.step([rows])).rejects.toThrow(TrainingError);
      expect(differences(before, await weightsOf(await trainer.checkpoint()))).toEqual([]);
      expect(trainer.steps).toBe(1);
    });
  });
});
