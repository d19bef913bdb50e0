/** From text to a trained model, through the public functions of mobilellm/training alone. */
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import {
  convertData,
  type DataProgress,
  type MetricsRecord,
  prepareData,
  readManifest,
  runRecipe,
  startDashboard,
  trainTokenizer,
} from "mobilellm/training";

let root: string;
let stories: string;
let tokenizer: string;
let data: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "mobilellm-data-"));
  [stories, tokenizer, data] = [join(root, "stories.txt"), join(root, "tok"), join(root, "data")];
  const animals = ["cat", "dog", "bird", "fish"];
  const story = (i: number): string => `The ${animals[i % 4]} saw a ${animals[(i * 3 + 1) % 4]} by the river.`;
  await writeFile(stories, Array.from({ length: 200 }, (_, i) => story(i)).join("\n<|endoftext|>\n"));
  await trainTokenizer({ sources: [stories], vocabSize: 270, out: tokenizer });
  await prepareData({ sources: [stories], tokenizer, out: data, heldOut: { kind: "last", documents: 20 } });
});
afterAll(() => rm(root, { recursive: true }));

it("makes a tokenizer and a data set, and says how far it is", async () => {
  expect((await readdir(tokenizer)).toSorted()).toEqual(["tokenizer.json", "tokenizer_config.json"]);
  const steps: DataProgress[] = [];
  const out = join(root, "again");
  const manifest = await prepareData({
    sources: [stories],
    tokenizer,
    out,
    onProgress: (step) => void steps.push(step),
  });
  expect(manifest).toEqual(await readManifest({ folder: out }));
  expect(manifest.settings).toMatchObject({ heldOut: "1 %", seed: 0 });
  expect(manifest.splits.train.documents + manifest.splits.heldOut.documents).toBe(200);
  const bytes = (await readFile(stories)).length;
  expect(steps.at(-1)).toEqual({ doneBytes: bytes, totalBytes: bytes });
});

it("converts tokens to lines, to a shard and back to a data set", async () => {
  const { splits } = await readManifest({ folder: data });
  const shard = join(root, "train.bin");
  expect(await convertData({ sources: [data], out: shard })).toEqual({
    kind: "shard",
    tokens: splits.train.tokens,
    dtype: "uint16",
  });
  const lines = await convertData({ sources: [shard], out: join(root, "train.jsonl"), length: 31 });
  expect(lines).toEqual({
    kind: "jsonl",
    lines: Math.floor(splits.train.tokens / 32),
    dropped: splits.train.tokens % 32,
  });
  const back = await convertData({
    sources: [shard],
    out: join(root, "back"),
    tokenizer,
    heldOut: { kind: "share", share: 0 },
  });
  expect(back).toMatchObject({ kind: "dataset", manifest: { splits: { train: { documents: 180 } } } });
});

it("trains by a recipe, at a path or as an object, and goes on with the run", async () => {
  const recipe = {
    model: { dim: 16, layers: 1, heads: 2, kvHeads: 1, hidden: 16 },
    data: { datasets: [{ folder: data }], length: 16 },
    batch: { rows: 2 },
    schedule: { kind: "constant", peak: 0.01, steps: 3 },
    evaluate: { every: 3, rows: 2 },
  };
  const records: MetricsRecord[] = [];
  const whole = await runRecipe({ recipe, out: join(root, "run"), onRecord: (record) => void records.push(record) });
  expect(whole).toMatchObject({ reason: "finished", step: 3 });
  expect(records.map(({ kind }) => kind)).toEqual(expect.arrayContaining(["start", "step", "heldOut", "end"]));
  expect(await readdir(join(root, "run"))).toEqual(expect.arrayContaining(["best", "last", "metrics.jsonl"]));

  const file = join(root, "recipe.json");
  await writeFile(file, `// the same, stopped on its way\n${JSON.stringify(recipe)}`);
  const [out, stop] = [join(root, "stopped"), new AbortController()];
  const onRecord = ({ kind }: MetricsRecord): void => (kind === "step" ? stop.abort() : undefined);
  expect(await runRecipe({ recipe: file, out, signal: stop.signal, onRecord })).toMatchObject({
    reason: "interrupted",
  });
  const resumed = await runRecipe({ out, resume: "last" });
  expect(resumed).toMatchObject({ reason: "finished", step: 3, loss: whole.loss, best: whole.best });
});

it("shows a run in a browser", async () => {
  const dashboard = await startDashboard({ run: root });
  expect(dashboard.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/$/);
  await dashboard.close();
});

it("refuses what it doesn't know, and what it can't read", async () => {
  const [out, sources] = [join(root, "never"), [stories]];
  const messages = [
    () => trainTokenizer({ sources, out, vocabsize: 300 } as never),
    () => prepareData({ sources: [join(root, "nothing")], tokenizer, out }),
    () => prepareData({ sources, tokenizer, out, holdOut: 1 } as never),
    () => convertData({ sources: [data], out }),
    () => readManifest({ folder: root }),
    () => runRecipe({ recipe: join(root, "nothing.json"), out }),
    () => runRecipe({ recipe: { modle: "125M" }, out }),
    () => runRecipe({ recipe: {}, output: out } as never),
    () => startDashboard({ run: root, prot: 1 } as never),
    () => prepareData({ sources: stories, tokenizer, out } as never),
    () => prepareData({ sources, tokenizer, out, heldOut: { kind: "share", share: 1 } }),
    () => prepareData({ sources, tokenizer, out, heldOut: { kind: "lsat", documents: 1 } } as never),
    () => prepareData({ sources, tokenizer, out, heldOut: { kind: "last" } } as never),
    () => prepareData({ sources, tokenizer, out, heldOut: { kind: "share", documents: 3 } } as never),
    () => trainTokenizer({ sources, out, vocabSize: 300.5 }),
    () => convertData({ sources: [data], out, split: "test" } as never),
    () => runRecipe({ recipe: {}, out, resume: "latest" } as never),
    () => startDashboard({ run: root, port: 70_000 }),
  ].map((ask) =>
    ask().then(
      () => "no error",
      (error: unknown) => String(error).replaceAll(root, "ROOT"),
    ),
  );
  expect(await Promise.all(messages)).toMatchInlineSnapshot(`
    [
      "TypeError: trainTokenizer: unknown option "vocabsize". Did you mean "vocabSize"?",
      "FormatError: ROOT/nothing: a file or folder with text was required, and there is nothing to read. Check the path.",
      "TypeError: prepareData: unknown option "holdOut". Did you mean "heldOut"?",
      "TypeError: convertData: tokenizer: what made the tokens was required for the data set ROOT/never, got none. Pass it, or name a file that ends in .jsonl or .bin.",
      "FormatError: ROOT/manifest.json: a file was required, but there is nothing at this path.",
      "FormatError: ROOT/nothing.json: a recipe was required, but there is nothing at this path. Print one with --print-recipe.",
      "FormatError: recipe: unknown key "modle". Did you mean "model"?",
      "TypeError: runRecipe: unknown option "output". Known: recipe, out, resume, threads, signal, onRecord.",
      "TypeError: startDashboard: unknown option "prot". Known: run, port.",
      "TypeError: prepareData.sources: expected a list, got "ROOT/stories.txt".",
      "RangeError: prepareData.heldOut.share: expected a number of 0 or more, below 1, got 1.",
      "RangeError: prepareData.heldOut.kind: expected one of share, last, got "lsat".",
      "RangeError: prepareData.heldOut.documents: required with kind "last", but missing.",
      "RangeError: prepareData.heldOut.documents: goes with another kind than "share".",
      "RangeError: trainTokenizer.vocabSize: expected a whole number of 1 or more, got 300.5.",
      "RangeError: convertData.split: expected one of train, heldOut, got "test".",
      "RangeError: runRecipe.resume: expected one of last, best, got "latest". Did you mean "last"?",
      "RangeError: startDashboard.port: expected a whole number from 0 to 65535, got 70000.",
    ]
  `);
});
