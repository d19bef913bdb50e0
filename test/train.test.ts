/**
 * `mobilellm train` from end to end on a tiny model: the program is killed, interrupted, led astray, and watched in a browser. What
 * it leaves must be, byte for byte, what an undisturbed run leaves. Needs a build and Chromium (see browser.test.ts).
 */
import { copyFile, mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { loadModel } from "mobilellm";
import { chromium } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createRandom } from "../src/random.ts";
import type { MetricsRecord } from "../src/training/run/metrics.ts";
import { mobilellm, startMobilellm } from "./support/run-cli.ts";

const STEPS = 60;
let root: string;
let whole: string; // the folder of an undisturbed run

const words =
  "the moon sun shines over a small house and cat sleeps near old tree while rain falls on green hill".split(" ");

function writeStories(count: number): string {
  const random = createRandom(3);
  const sentence = (): string => Array.from({ length: 6 }, () => words[random.below(words.length)]!).join(" ");
  return Array.from({ length: count }, () => `${sentence()}. ${sentence()}.`).join("\n\n");
}

const recipe = {
  model: { dim: 32, layers: 2, heads: 2, kvHeads: 1, hidden: 64 },
  data: { datasets: [{ folder: "" }], length: 32 },
  batch: { rows: 2, accumulation: 2 },
  schedule: { peak: 3e-3, warmupSteps: 5, steps: STEPS },
  evaluate: { every: 20, rows: 8 },
  sample: { every: 30, prompts: ["the moon"], tokens: 8 },
  checkpoint: { everySteps: 1000 },
};

async function writeRecipe(name: string, changes: object = {}): Promise<string> {
  const path = join(root, `${name}.json`);
  const data = { datasets: [{ folder: join(root, "data") }], length: 32 };
  await writeFile(path, JSON.stringify({ ...recipe, data, ...changes }));
  return path;
}

async function succeed(args: readonly string[]): Promise<string> {
  const { status, out, err } = await mobilellm(args);
  expect({ status, err: status === 0 ? "" : err }).toEqual({ status: 0, err: "" });
  return out;
}

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "mobilellm-train-"));
  await mkdir(join(root, "text"));
  await writeFile(join(root, "text", "stories.txt"), writeStories(300));
  await succeed(["data", "tokenizer", join(root, "text"), "--vocab-size", "300", "--out", join(root, "tokenizer")]);
  const out = ["--tokenizer", join(root, "tokenizer"), "--out", join(root, "data"), "--held-out", "5%"];
  await succeed(["data", "prepare", join(root, "text"), ...out, "--document-separator", "\\n\\n"]);
  whole = join(root, "whole");
  await succeed(["train", await writeRecipe("whole"), "--out", whole]);
});

afterAll(() => rm(root, { recursive: true, force: true }));

async function metrics(folder: string): Promise<MetricsRecord[]> {
  const lines = (await readFile(join(folder, "metrics.jsonl"), "utf8")).trimEnd().split("\n");
  return lines.map((line) => JSON.parse(line) as MetricsRecord);
}

/** What a run computed: records without clocks, and every byte of weights and moments. */
async function outcome(folder: string): Promise<unknown> {
  const records = (await metrics(folder)).flatMap((record): unknown[] => {
    if (record.kind === "step")
      return [[record.step, record.loss, record.gradientNorm, record.learningRate, record.tokens]];
    if (record.kind === "heldOut") return [[record.step, record.loss, record.bitsPerByte, record.isBest]];
    return record.kind === "sample" ? [[record.step, record.prompt, record.temperature, record.text]] : [];
  });
  const files = ["last", "best"].flatMap((name) =>
    ["model.safetensors", "optimizer.safetensors", "config.json", "tokenizer.json"].map((file) => join(name, file)),
  );
  const bytes = await Promise.all(files.map(async (file) => (await readFile(join(folder, file))).toString("base64")));
  return { records, files: Object.fromEntries(files.map((file, i) => [file, bytes[i]])) };
}

describe("a run", () => {
  test("learns, and says how well", async () => {
    const heldOut = (await metrics(whole)).filter((record) => record.kind === "heldOut");
    expect(heldOut.map(({ step }) => step)).toEqual([0, 20, 40, 60]);
    expect(heldOut[0]!.loss).toBeCloseTo(Math.log(300), 0);
    expect(heldOut.at(-1)!.loss).toBeLessThan(0.8 * heldOut[0]!.loss);
    const last = (await metrics(whole)).findLast((record) => record.kind === "step")!;
    expect(last.flopsPerSecond).toBeGreaterThan(1e6);
    expect(last.utilisation).toBeLessThanOrEqual(1);
    const samples = (await metrics(whole)).filter((record) => record.kind === "sample");
    expect(samples.map(({ step, temperature }) => [step, temperature])).toEqual([
      [30, 0],
      [30, 0.8],
      [60, 0],
      [60, 0.8],
    ]);
  });

  test("leaves a model that loads, with its tokenizer and how it ends texts, and converts to GGUF", async () => {
    const model = await loadModel(join(whole, "best"));
    const { text } = await model.generate("the moon", { temperature: 0, maxTokens: 8 }).result;
    await model.dispose();
    const [greedy] = (await metrics(whole)).filter((record) => record.kind === "sample" && record.step === STEPS);
    expect(greedy).toMatchObject({ text });
    const gguf = join(root, "model.gguf");
    await succeed(["convert", join(whole, "best"), gguf]);
    const generated = await succeed([
      "generate",
      "the moon",
      "--model",
      gguf,
      "--temperature",
      "0",
      "--max-tokens",
      "8",
    ]);
    expect(generated).toBe(`${text}\n`);
  });

  test("computes the same with one thread as with two", async () => {
    const folder = join(root, "one-thread");
    await succeed(["train", join(root, "whole.json"), "--out", folder, "--threads", "1"]);
    expect(await outcome(folder)).toEqual(await outcome(whole));
  });

  test("--json gives the outcome for machines", async () => {
    const folder = join(root, "json");
    const out = await succeed([
      "train",
      await writeRecipe("json", { schedule: { peak: 1e-3, steps: 3 } }),
      "--out",
      folder,
      "--json",
    ]);
    expect(JSON.parse(out)).toMatchObject({
      folder,
      reason: "finished",
      step: 3,
      steps: 3,
      tokens: 3 * 4 * 32,
      best: { step: 3 },
    });
  });

  test("is refused a folder that holds one, without --resume", async () => {
    const { status, err } = await mobilellm(["train", join(root, "whole.json"), "--out", whole]);
    expect({ status, err }).toEqual({
      status: 1,
      err: `mobilellm: ${whole}: holds a run already. Pass --resume to go on with it, or choose another folder.\n`,
    });
  });

  test("whose loss is lost ends with a way on, and leaves a checkpoint from before", async () => {
    const folder = join(root, "lost");
    const path = await writeRecipe("lost", {
      schedule: { peak: 1000, steps: 50, warmupSteps: 0 },
      optimizer: { clip: null },
    });
    const { status, out, err } = await mobilellm(["train", path, "--out", folder]);
    expect({ status, out }).toEqual({ status: 1, out: "" });
    expect(err).toMatch(/\nmobilellm: step \d+: .*(exploded|must be finite).*(Start again|--resume best)\.?.*\n$/);
    expect((await metrics(folder)).at(-1)).toMatchObject({ kind: "end", reason: "failed" });
    const model = await loadModel(join(folder, "best"));
    expect((await model.logits([1, 2, 3])).every(Number.isFinite)).toBe(true);
    await model.dispose();
  });
});

describe("a run that is killed", () => {
  test("at random moments goes on each time, and ends as if nothing had been", async () => {
    const folder = join(root, "killed");
    // So often that a kill may meet a checkpoint half written.
    const path = await writeRecipe("killed", { checkpoint: { everySteps: 1 } });
    const random = createRandom(5);
    let kills = 0;
    for (;;) {
      // Before the recipe is in place there is no run to go on with.
      const exists = await stat(join(folder, "recipe.json")).catch(() => undefined);
      const args = exists === undefined ? [path] : ["--resume"];
      const { child, outcome: ended, printed } = startMobilellm(["train", ...args, "--out", folder]);
      if (kills < 5) {
        await waitForStart(child, printed);
        await sleep(400 * random.next());
        child.kill("SIGKILL");
      }
      const { status, err } = await ended;
      if (status === null) kills++;
      else {
        expect({ status, err: status === 0 ? "" : err }).toEqual({ status: 0, err: "" });
        break;
      }
    }
    expect(kills).toBeGreaterThan(2);
    expect(await outcome(folder)).toEqual(await outcome(whole));
  }, 240_000); // up to six starts of the program

  /** Until it trains: the kills should meet steps and checkpoints, not the start of the program. */
  async function waitForStart(child: { readonly exitCode: number | null }, printed: { err: string }): Promise<void> {
    while (!printed.err.includes(" parameters · ") && child.exitCode === null) await sleep(5);
  }
});

describe("Ctrl-C", () => {
  test("saves and stops, and --resume goes on from there to the same end", async () => {
    const folder = join(root, "interrupted");
    const path = await writeRecipe("interrupted");
    const stopped = await mobilellm(["train", path, "--out", folder], { interruptAfter: /step 20: held-out/ });
    expect(stopped.status).toBe(130);
    expect(stopped.out).toMatch(/^interrupted after 2\d of 60 steps/);
    expect(stopped.out).toContain(`Go on with: mobilellm train --out ${folder} --resume`);
    const { step } = JSON.parse(await readFile(join(folder, "last", "run.json"), "utf8")) as { step: number };
    await succeed(["train", "--out", folder, "--resume"]);
    expect((await metrics(folder)).filter(({ kind }) => kind === "start").map((record) => record.step)).toEqual([
      0,
      step,
    ]);
    expect(await outcome(folder)).toEqual(await outcome(whole));
  });
});

describe("finetuning", () => {
  test("goes on from another run's model with fresh moments", async () => {
    const folder = join(root, "finetuned");
    const path = await writeRecipe("finetuned", {
      model: undefined,
      init: join(whole, "last"),
      schedule: { kind: "linear", peak: 1e-4, steps: 5, floor: 0 },
    });
    await succeed(["train", path, "--out", folder]);
    const [before] = (await metrics(folder)).filter((record) => record.kind === "heldOut");
    const after = (await metrics(whole)).findLast((record) => record.kind === "heldOut")!;
    expect(before!.loss).toBe(after.loss);
  });

  test("of a .gguf file, on conversations, learns what the assistant says", async () => {
    const base = join(root, "base");
    await mkdir(base);
    for (const file of ["config.json", "model.safetensors", "tokenizer.json"])
      await copyFile(join(whole, "last", file), join(base, file));
    const chat_template = "{% for message in messages %}{{ message.role[0] }}: {{ message.content }}\n{% endfor %}";
    await writeFile(join(base, "tokenizer_config.json"), JSON.stringify({ eos_token: "<|endoftext|>", chat_template }));
    const line = JSON.stringify({
      messages: [
        { role: "user", content: "the cat" },
        { role: "assistant", content: "sleeps near the tree" },
      ],
    });
    await writeFile(join(root, "chats.jsonl"), `${line}\n`.repeat(20));
    await succeed(["convert", base, join(root, "base.gguf"), "--dtype", "f32"]);
    const folder = join(root, "chat");
    const path = await writeRecipe("chat", {
      model: undefined,
      init: join(root, "base.gguf"),
      data: { chats: { files: [join(root, "chats.jsonl")] }, length: 32 },
      schedule: { kind: "constant", peak: 1e-2, steps: 60 },
    });
    await succeed(["train", path, "--out", folder]);
    const losses = (await metrics(folder)).filter((record) => record.kind === "step").map(({ loss }) => loss);
    expect(losses.at(-1)).toBeLessThan(0.2 * losses[0]!);
    const model = await loadModel(join(folder, "last"));
    const prompt = model.tokenizer!.renderChat([{ role: "user", content: "the cat" }]);
    const { text } = await model.generate(`${prompt}a:`, { temperature: 0, maxTokens: 20, stop: "\n" }).result;
    await model.dispose();
    expect(text).toBe(" sleeps near the tree");
  });
});

test.each([["train"], ["dashboard"]])("%s --help shows an example", async (command) => {
  expect(await succeed([command, "--help"])).toContain(`Example:\n  $ mobilellm ${command}`);
});

describe("wrong usage", () => {
  test.each([
    [["train"], 2, "train: --out <folder> is required"],
    [["train", "--out", "nowhere-run"], 2, "train: a recipe is required."],
    [
      ["train", "/nowhere.json", "--out", "nowhere-run"],
      1,
      "/nowhere.json: a recipe was required, but there is nothing at this path.",
    ],
    [["train", "--print-recipe", "explor"], 2, "'explor' is invalid. Allowed choices are explore, final"],
    [["train", "--resume", "worst", "--out", "x"], 2, "Expected last or best; the recipe goes before the options."],
    [["train", "--dashboard", "99999", "--out", "x"], 2, "Expected a port from 0 (any) to 65535."],
    [["dashboard", "test"], 2, "dashboard: test is no run's folder"],
  ])("%j ends with %i and one line", async (args, expected, message) => {
    const { status, out, err } = await mobilellm(args);
    expect({ status, out }).toEqual({ status: expected, out: "" });
    expect(err).toContain(message);
    expect(err).toMatch(/^mobilellm: .*\n$/);
  });

  test("a wrong key in a recipe is named, with the nearest right one", async () => {
    const path = await writeRecipe("wrong", { optimizer: { beta: [0.9, 0.95] } });
    const { status, err } = await mobilellm(["train", path, "--out", join(root, "wrong")]);
    expect({ status, err }).toEqual({
      status: 1,
      err: `mobilellm: ${path}: unknown key "optimizer.beta". Did you mean "optimizer.betas"?\n`,
    });
  });
});

test("the dashboard's curves grow while the run goes on, and show how it ended", async () => {
  const folder = join(root, "watched");
  const path = await writeRecipe("watched", {
    schedule: { peak: 1e-3, steps: 100_000 },
  });
  const { child, printed, outcome: ended } = startMobilellm(["train", path, "--out", folder, "--dashboard"]);
  const browser = await chromium.launch({
    executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu"],
  });
  try {
    await expect.poll(() => printed.err, { timeout: 20_000 }).toMatch(/dashboard: http:\/\/127\.0\.0\.1:\d+\/\n/);
    const page = await browser.newPage();
    const complaints: string[] = [];
    page.on("console", (message) => complaints.push(message.text()));
    page.on("pageerror", (error) => complaints.push(error.message));
    await page.goto(/http:\S+/.exec(printed.err)![0]);
    const length = async (chart: string): Promise<number> =>
      (await page.locator(`#${chart} path.line.smooth`).getAttribute("d"))!.length;
    const charts = ["loss", "learning-rate", "gradient-norm", "throughput"];
    const before = await Promise.all(charts.map(length));
    await expect
      .poll(async () => (await Promise.all(charts.map(length))).every((now, i) => now > before[i]!), {
        timeout: 20_000,
      })
      .toBe(true);
    await expect.poll(() => page.locator(".sample").count(), { timeout: 20_000 }).toBe(2);
    expect(await page.textContent("#status")).toBe("running");
    expect(complaints).toEqual([]);
    child.kill("SIGINT");
    await expect.poll(() => page.textContent("#status"), { timeout: 20_000 }).toBe("interrupted");
    expect((await ended).status).toBe(130);
  } finally {
    child.kill("SIGKILL");
    await browser.close();
  }
});
