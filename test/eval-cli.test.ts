/** `mobilellm eval` as its users meet it, and its page in a browser. */
import { spawn } from "node:child_process";
import { copyFile, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { writeRandomCheckpoint } from "./support/random-checkpoint.ts";

let folder: string; // a model and its data

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mobilellm-eval-"));
  await writeRandomCheckpoint(folder, {
    model_type: "llama",
    hidden_size: 32,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    intermediate_size: 64,
    vocab_size: 420, // of the tokenizer in the fixtures
    max_position_embeddings: 512,
    tie_word_embeddings: true,
  });
  await copyFile("test/fixtures/tokenizer/sp-fallback.model", join(folder, "tokenizer.model"));
  const rows = Array.from({ length: 8 }, (_, i) => ({
    goal: `To lift lamp ${i},`,
    sol1: "use a ladder",
    sol2: "wait",
    label: i % 2,
  }));
  await writeFile(join(folder, "piqa.jsonl"), rows.map((row) => JSON.stringify(row)).join("\n"));
  await writeFile(join(folder, "story.txt"), "The owl mends the lamp. ".repeat(8));
  await writeFile(
    join(folder, "colours.mjs"),
    `export default {
      name: "colours", version: 1, kind: "choice", data: { names: ["piqa"] },
      document: (row) => ({ context: row.text("goal"), choices: ["red", "blue"], gold: row.integer("label") }),
    };`,
  );
});

afterAll(() => rm(folder, { recursive: true }));

function run(...args: string[]): Promise<{ status: number | null; out: string; err: string }> {
  const child = spawn(process.execPath, ["dist/cli/main.js", "eval", "--model", folder, "--data", folder, ...args], {
    env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: undefined },
  });
  let out = "";
  let err = "";
  child.stdout.on("data", (data: Buffer) => (out += data.toString()));
  child.stderr.on("data", (data: Buffer) => (err += data.toString()));
  return new Promise((resolve) => child.on("close", (status) => resolve({ status, out, err })));
}

test("a table, samples, and the same scores on one thread and on two", async () => {
  const samples = join(folder, "samples.jsonl");
  const args = ["--tasks", `piqa,story.txt,${join(folder, "colours.mjs")}`, "--samples", samples];
  const { status, out, err } = await run(...args, "--threads", "1");
  expect({ status, err }).toEqual({ status: 0, err: "" });
  expect(out).toMatch(/piqa +0 +8 +\d+\.\d +acc +\d+\.\d\d +\d+\.\d\d/);
  expect(out).toMatch(/story\.txt +0 +1 .*word_perplexity/);
  const first = await readFile(samples, "utf8");
  expect(first.trimEnd().split("\n")).toHaveLength(8 + 1 + 8);
  expect(JSON.parse(first.split("\n")[0]!)).toMatchObject({ task: "piqa", id: "piqa/0", target: 0 });
  await run(...args, "--threads", "2");
  expect(await readFile(samples, "utf8")).toBe(first);
});

test("the page shows our model beside the paper's, and dtypes beside each other", async () => {
  const page = join(folder, "report.html");
  const { status, out } = await run("--tasks", "piqa", "--dtypes", "f32,q8,q4", "--json", "--report", page);
  expect(status).toBe(0);
  const results = JSON.parse(out) as { model: { dtype: string }; tasks: object }[];
  expect(results.map(({ model }) => model.dtype)).toEqual(["f32", "q8", "q4"]);
  const browser = await chromium.launch({
    executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu"],
  });
  try {
    const view = await browser.newPage();
    const requests: string[] = [];
    view.on("request", (request) => requests.push(request.url()));
    const problems: string[] = [];
    view.on("console", (message) => problems.push(message.text()));
    await view.goto(pathToFileURL(page).href);
    expect(await view.locator("figure").count()).toBe(2);
    // Ours and the paper's nine of the smallest size; then three dtypes.
    expect(await view.locator("figure").first().locator("circle").count()).toBe(10);
    expect(await view.locator("figure").last().locator("circle").count()).toBe(3);
    const right = await view.locator("svg").first().locator("text.value").first().boundingBox();
    const chart = await view.locator("svg").first().boundingBox();
    expect(right!.x + right!.width).toBeLessThanOrEqual(chart!.x + chart!.width);
    expect(problems).toEqual([]);
    expect(requests).toHaveLength(1);
  } finally {
    await browser.close();
  }
});

test("missing data ends with one line that says where to get it", async () => {
  const { status, out, err } = await run("--tasks", "arc_easy");
  expect({ status, out }).toEqual({ status: 1, out: "" });
  expect(err).toMatch(
    /^mobilellm: arc_easy: arc_easy\.jsonl .* was required in .*huggingface\.co\/datasets\/allenai\/ai2_arc.*\n$/,
  );
  const skipping = await run("--tasks", "arc_easy,piqa", "--skip-missing", "--limit", "1");
  expect(skipping.status).toBe(0);
  expect(skipping.out).toContain("left out: arc_easy: ");
});

test("--list needs no model", async () => {
  const { status, out } = await run("--list");
  expect(status).toBe(0);
  expect(out).toContain(
    "common-sense: arc_easy, arc_challenge, boolq, piqa, social_iqa, hellaswag, openbookqa, winogrande",
  );
});
