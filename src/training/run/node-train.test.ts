import { mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  createFakeLoader,
  createFakeTrainer,
  fakeConfig,
  type FakeTrainer,
  loadFakeTrainer,
} from "../../../test/support/fake-trainer.ts";
import type { Checkpoint } from "../../formats/checkpoint.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import type { MetricsRecord } from "./metrics.ts";
import { type TrainEdges, type TrainOptions, trainRecipe } from "./node-train.ts";

let root: string; // one folder a test below it
let data: string;
let count = 0;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "mobilellm-run-"));
  data = join(root, "data");
  await mkdir(data);
});

afterAll(() => rm(root, { recursive: true, force: true }));

const tokenizer = {
  vocabSize: 64,
  bosToken: undefined,
  eosTokens: [0],
  chatTemplate: undefined,
  tokenText: (token: number) => (token === 0 ? "<eos>" : "?"),
} as unknown as Tokenizer;

type Fake = TrainEdges & { trainers: FakeTrainer[]; closed: string[] };

function createEdges(prepare?: (trainer: FakeTrainer) => void): Fake {
  const edges: Fake = {
    trainers: [],
    closed: [],
    createTrainer: async (options) => {
      const trainer = "resume" in options ? await loadFakeTrainer(options.resume) : createFakeTrainer();
      trainer.dispose = async () => void edges.closed.push("trainer");
      prepare?.(trainer);
      edges.trainers.push(trainer);
      return trainer;
    },
    openLoader: async ({ data: { length }, seed, position }) =>
      Object.assign(createFakeLoader({ length, seed, position }), {
        close: async () => void edges.closed.push("loader"),
      }),
    openTokenizer: async () => ({ tokenizer, files: new Map([["tokenizer.json", Buffer.from("{}")]]) }),
    openCheckpoint: async () => ({ close: async () => void edges.closed.push("checkpoint") }) as unknown as Checkpoint,
    forwardFlops: () => ({ flopsPerToken: 1000, attentionFlopsPerPosition: 10 }),
    measurePeak: async () => 1e9,
  };
  return edges;
}

function recipe(changes: object = {}): { source: string; file: string } {
  const json = {
    model: { dim: 8, layers: 1, heads: 2 },
    data: { datasets: [{ folder: data }], length: 4 },
    schedule: { peak: 0.01, steps: 9 },
    evaluate: { every: 4, rows: 3 },
    checkpoint: { everySteps: 2 },
    ...changes,
  };
  return { source: JSON.stringify(json), file: "recipe.json" };
}

function options(changes: Partial<TrainOptions> = {}): TrainOptions {
  return {
    recipe: recipe(),
    out: join(root, `run-${count++}`),
    resume: undefined,
    threads: undefined,
    signal: new AbortController().signal,
    ...changes,
  };
}

async function metrics(out: string): Promise<MetricsRecord[]> {
  const text = await readFile(join(out, "metrics.jsonl"), "utf8");
  return text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as MetricsRecord);
}

const losses = (records: readonly MetricsRecord[]): [string, number, number][] =>
  records.flatMap((record) =>
    record.kind === "step" || record.kind === "heldOut" ? [[record.kind, record.step, record.loss]] : [],
  );

/** Events of an event file: the frames between their lengths and checksums. */
async function countEvents(out: string): Promise<number> {
  const bytes = await readFile(join(out, "events.out.tfevents.0000000000.mobilellm"));
  let count = 0;
  for (let at = 0; at < bytes.length; count++) at += 16 + Number(bytes.readBigUInt64LE(at));
  return count;
}

describe("a run's folder", () => {
  test("holds the recipe, metrics, events and both checkpoints with all that makes them models", async () => {
    const { out, ...rest } = options();
    const edges = createEdges();
    const summary = await trainRecipe({ out, ...rest }, edges);
    expect(summary).toMatchObject({ reason: "finished", step: 9 });
    expect((await readdir(out)).sort()).toEqual([
      "best",
      "events.out.tfevents.0000000000.mobilellm",
      "last",
      "metrics.jsonl",
      "recipe.json",
    ]);
    expect((await readdir(join(out, "last"))).sort()).toEqual([
      "generation_config.json",
      "run.json",
      "tokenizer.json",
      "tokenizer_config.json",
      "weights.json",
    ]);
    const config: unknown = JSON.parse(await readFile(join(out, "last", "tokenizer_config.json"), "utf8"));
    expect(config).toMatchObject({ tokenizer_class: "PreTrainedTokenizerFast", eos_token: "<eos>" });
    expect(JSON.parse(await readFile(join(out, "last", "generation_config.json"), "utf8"))).toMatchObject({
      eos_token_id: 0,
    });
    expect((await metrics(out)).map(({ kind }) => kind)).toEqual([
      "start",
      "heldOut",
      ..."ssss".split("").map(() => "step"),
      "heldOut",
      "step",
      "step",
      "step",
      "step",
      "heldOut",
      "step",
      "heldOut",
      "end",
    ]);
    expect(await countEvents(out)).toBe(1 + 9 + 4);
    expect(edges.closed).toEqual(["trainer", "loader"]);
  });

  test("counts three times the forward pass, and half a row of attention", async () => {
    const { out, ...rest } = options();
    await trainRecipe({ out, ...rest }, createEdges());
    const [step] = (await metrics(out)).filter((record) => record.kind === "step");
    expect(step!.flopsPerSecond / step!.tokensPerSecond).toBeCloseTo(3 * (1000 + 10 * 2.5), 6);
    expect(step!.utilisation).toBeCloseTo(step!.flopsPerSecond / 1e9, 12);
  });

  test("that holds a run is not used for another", async () => {
    const started = options();
    await trainRecipe(started, createEdges());
    await expect(trainRecipe(started, createEdges())).rejects.toThrow(
      `${started.out}: holds a run already. Pass --resume to go on with it`,
    );
  });

  test("that holds something else is left alone", async () => {
    const out = join(root, `run-${count++}`);
    await mkdir(out);
    await writeFile(join(out, "thesis.txt"), "");
    await expect(trainRecipe(options({ out }), createEdges())).rejects.toThrow(
      "an empty or new folder was required, it holds thesis.txt",
    );
    expect(await readdir(out)).toEqual(["thesis.txt"]);
  });

  test("stays free for another try when the run could not start", async () => {
    const edges = createEdges();
    edges.openLoader = () => Promise.reject(new Error("no shards"));
    const started = options();
    await expect(trainRecipe(started, edges)).rejects.toThrow("no shards");
    expect(await trainRecipe(started, createEdges())).toMatchObject({ reason: "finished" });
  });

  test("is one process's at a time", async () => {
    const out = join(root, `run-${count++}`);
    await mkdir(out);
    await writeFile(join(out, "recipe.json"), recipe().source);
    await writeFile(join(out, "running.pid"), String(process.ppid));
    await expect(trainRecipe(options({ out, resume: "last" }), createEdges())).rejects.toThrow(
      `process ${process.ppid} trains here`,
    );
  });
});

describe("a resumed run", () => {
  /** Stops in the middle of a step, as at a kill: nothing is written after that. */
  async function killedAt(step: number): Promise<string> {
    const { out, ...rest } = options();
    const killed = createEdges((trainer) => {
      trainer.onStep = (at) => {
        if (at === step) throw new Error("killed");
      };
    });
    await expect(trainRecipe({ out, ...rest }, killed)).rejects.toThrow("killed");
    return out;
  }

  test.each(Array.from({ length: 9 }, (_, i) => i + 1))(
    "killed in step %i ends as if nothing had been",
    async (step) => {
      const whole = options();
      const edges = createEdges();
      await trainRecipe(whole, edges);
      const out = await killedAt(step);
      const resumed = createEdges();
      const summary = await trainRecipe(options({ out, recipe: undefined, resume: "last" }), resumed);
      expect(summary).toMatchObject({ reason: "finished", step: 9 });
      expect(resumed.trainers[0]!.weights()).toBe(edges.trainers[0]!.weights());
      expect(losses(await metrics(out))).toEqual(losses(await metrics(whole.out)));
      expect(await countEvents(out)).toBe(await countEvents(whole.out));
    },
  );

  test("loses nothing when it is killed between a checkpoint and the next lines", async () => {
    const out = await killedAt(8);
    // A kill may tear the last line.
    const { size } = await stat(join(out, "metrics.jsonl"));
    await truncate(join(out, "metrics.jsonl"), size - 5);
    await trainRecipe(options({ out, resume: "last" }), createEdges());
    expect(
      losses(await metrics(out))
        .filter(([kind]) => kind === "step")
        .map(([, step]) => step),
    ).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  });

  test("can go on from the best checkpoint, with a lower peak", async () => {
    const out = await killedAt(8);
    const lower = recipe({ schedule: { peak: 0.001, steps: 9 } });
    const signal = AbortSignal.abort();
    // Even when it stops at once, the last checkpoint is then the best one.
    await expect(trainRecipe(options({ out, recipe: lower, resume: "best", signal }), createEdges())).rejects.toThrow();
    await trainRecipe(options({ out, recipe: lower, resume: "best" }), createEdges());
    const steps = (await metrics(out)).filter((record) => record.kind === "step").map(({ step }) => step);
    expect(steps).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(JSON.parse(await readFile(join(out, "recipe.json"), "utf8"))).toMatchObject({ schedule: { peak: 0.001 } });
  });

  test("must be the same run", async () => {
    const out = await killedAt(5);
    const other = recipe({ seed: 2 });
    await expect(trainRecipe(options({ out, recipe: other, resume: "last" }), createEdges())).rejects.toThrow(
      "recipe.json: seed must stay what the run",
    );
  });

  test("needs a run", async () => {
    await expect(trainRecipe(options({ resume: "last" }), createEdges())).rejects.toThrow("holds no run to resume");
  });

  test("with files shorter than its checkpoint says so", async () => {
    const out = await killedAt(8);
    await truncate(join(out, "metrics.jsonl"), 10);
    await expect(trainRecipe(options({ out, resume: "last" }), createEdges())).rejects.toThrow(
      /metrics\.jsonl: the checkpoint was taken at \d+ bytes of it, it has 10/,
    );
  });

  test("with a damaged run.json says so", async () => {
    const out = await killedAt(8);
    await writeFile(join(out, "last", "run.json"), '{"version":1}');
    await expect(trainRecipe(options({ out, resume: "last" }), createEdges())).rejects.toThrow(
      "run.json: step: required, but missing. Resume from another checkpoint.",
    );
  });
});

describe("a run from a checkpoint", () => {
  test("takes the shape from there, and closes it", async () => {
    const edges = createEdges();
    await trainRecipe(options({ recipe: recipe({ model: undefined, init: "models/x" }) }), edges);
    expect(edges.closed).toEqual(["checkpoint", "trainer", "loader"]);
  });

  test("needs room for the data's tokens", async () => {
    const edges = createEdges();
    const larger = { ...tokenizer, vocabSize: fakeConfig.vocabSize + 1 };
    edges.openTokenizer = async () => ({ tokenizer: larger, files: new Map() });
    await expect(
      trainRecipe(options({ recipe: recipe({ model: undefined, init: "models/x" }) }), edges),
    ).rejects.toThrow(`models/x: room for the 65 tokens of ${data} was required, it has 64.`);
  });
});
