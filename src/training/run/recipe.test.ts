import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { countParameters, presets } from "../../model/config.ts";
import { recipePresets } from "./recipe-presets.ts";
import { createModelConfig, parseRecipe, printRecipe, type Recipe, tokensPerStep } from "./recipe.ts";

const minimal = {
  model: "125M",
  data: { datasets: [{ folder: "data/x" }] },
  schedule: { peak: 0.001, steps: 100 },
};

function parse(json: unknown): Recipe {
  return parseRecipe(JSON.stringify(json), "recipe.json");
}

describe("a recipe", () => {
  test("fills in what was left out", () => {
    expect(parse(minimal)).toMatchObject({
      data: { datasets: [{ folder: "data/x" }], length: 1024 },
      batch: { rows: 1, accumulation: 1 },
      optimizer: { betas: [0.9, 0.95], eps: 1e-8, weightDecay: 0.1, clip: 1 },
      schedule: { kind: "cosine", peak: 0.001, warmupSteps: 0, steps: 100, decaySteps: 100, floor: 0.1 },
      seed: 1,
    });
  });

  test("that was filled in is one itself", () => {
    const recipe = parse({ ...minimal, model: { preset: "125M-LS", layers: 4, sharing: { kind: "repeat" } } });
    expect(parse(JSON.parse(JSON.stringify(recipe)))).toEqual(recipe);
  });

  test("may hold comments and trailing commas, but not inside texts", () => {
    const source = `{ // a line
      /* several
         lines */ "model": "125M",
      "data": { "datasets": [{ "folder": "data//x,/* ,]" },], },
      "schedule": { "peak": 1e-3, "steps": 10, /* so */ },
    }`;
    expect(parseRecipe(source, "recipe.json").data.datasets).toEqual([{ folder: "data//x,/* ,]" }]);
  });

  test.each([
    [{ ...minimal, optimiser: {} }, 'unknown key "optimiser". Did you mean "optimizer"?'],
    [{ ...minimal, optimizer: { beta: 1 } }, 'unknown key "optimizer.beta". Did you mean "optimizer.betas"?'],
    [{ ...minimal, optimizer: { betas: [0.9] } }, "optimizer.betas: expected a list of 2, got [0.9]."],
    [
      { ...minimal, optimizer: { betas: [0.9, 1] } },
      "optimizer.betas[1]: expected a number of 0 or more, below 1, got 1.",
    ],
    [{ ...minimal, batch: { rows: 1.5 } }, "batch.rows: expected a whole number of 1 or more, got 1.5."],
    [{ ...minimal, batch: { momentum: 1 } }, 'unknown key "batch.momentum". It belongs in optimizer.'],
    [{ ...minimal, batch: { size: 1 } }, 'unknown key "batch.size". Known in batch: rows, accumulation.'],
    [{ ...minimal, data: { datasets: [] } }, "data.datasets: expected at least one data set, got none."],
    [
      { ...minimal, data: { datasets: [{ folder: "x", wieght: 2 }] } },
      'unknown key "data.datasets[0].wieght". Did you mean "data.datasets[0].weight"?',
    ],
    [{ ...minimal, data: { chats: { files: ["x"] } } }, "data.tokenizer: required for data.chats"],
    [{ ...minimal, data: { ...minimal.data, chats: { files: ["x"] } } }, "data.chats: goes without data.datasets"],
    [{ ...minimal, data: { ...minimal.data, tokenizer: "tok" } }, "data.tokenizer: goes without data.datasets"],
    [{ ...minimal, schedule: { steps: 5 } }, "schedule.peak: required, but missing."],
    [
      { ...minimal, schedule: { peak: 1, steps: 5, warmupSteps: 6 } },
      "schedule.warmupSteps: expected at most schedule.steps (5), got 6.",
    ],
    [
      { ...minimal, schedule: { peak: 1, steps: 5, warmupSteps: 2, decaySteps: 4 } },
      "schedule.decaySteps: expected at most the 3 steps after the warm-up, got 4.",
    ],
    [
      { ...minimal, schedule: { peak: { value: 1 }, steps: 5 } },
      "schedule.peak.atTokensPerStep: required, but missing.",
    ],
    [
      { ...minimal, schedule: { ...minimal.schedule, kind: "cosin" } },
      'schedule.kind: expected one of cosine, linear, constant, got "cosin". Did you mean "cosine"?',
    ],
    [
      { ...minimal, model: "126M" },
      'model: expected one of 125M, 350M, 600M, 1B, 1.5B, 125M-LS, 350M-LS, got "126M". Did you mean "125M"?',
    ],
    [{ ...minimal, model: undefined }, "model: a preset's name, a shape, or init"],
    [{ ...minimal, init: "models/x" }, "model: init brings a shape of its own"],
    [{ ...minimal, model: { dim: 64, layers: 2 } }, "model.heads: required, but missing."],
    [{ ...minimal, model: { dim: 64, layers: 2, heads: 3 } }, "model.headSize: heads (3) must divide dim (64)."],
    [
      { ...minimal, model: { dim: 64, layers: 2, heads: 4, kvHeads: 3 } },
      "model.kvHeads: must divide heads (4), got 3.",
    ],
    [
      { ...minimal, model: { preset: "125M", sharing: { kind: "none", repeats: 2 } } },
      'model.sharing.repeats: "none" applies each block once, got 2.',
    ],
    [
      { ...minimal, model: { preset: "125M", contextLength: 512 } },
      "model.contextLength: expected at least data.length (1024), got 512.",
    ],
    [{ ...minimal, preset: "explor" }, "preset: expected one of explore, final,"],
    [{ ...minimal, peak: 1 }, 'unknown key "peak". It belongs in schedule.'],
    [{ ...minimal, rows: 1 }, 'unknown key "rows". It belongs in batch or in evaluate.'],
    [{ ...minimal, data: { ...minimal.data, seed: 1 } }, 'unknown key "data.seed". It belongs at the top.'],
    [{ ...minimal, batch: [] }, "batch: expected an object, got []."],
    [[], "the file: expected an object, got []."],
  ])("%j is refused by the path of what is wrong", (json, message) => {
    expect(() => parse(json)).toThrow(`recipe.json: ${message}`);
  });

  test("that is no JSON is refused by line", () => {
    expect(() => parseRecipe('{\n  // fine\n  "model": 125M\n}', "recipe.json")).toThrow(
      /^recipe\.json: line 3: valid JSON was expected/,
    );
  });
});

describe("a preset", () => {
  test.each(Object.keys(recipePresets))("%s is printed as a recipe that works", (name) => {
    const recipe = parseRecipe(printRecipe(name), "printed");
    expect(parse({ preset: name })).toEqual(recipe);
  });

  test.each([
    ["explore", 120_000, 251.7e9],
    ["final", 480_000, 1.0066e12],
  ])("%s is the paper's: %d steps, %d tokens, 2e-3 at 2,097,152 tokens a step", (preset, steps, tokens) => {
    const recipe = parse({ preset });
    const decaySteps = steps - 1000;
    expect(recipe.schedule).toEqual({ kind: "cosine", peak: 2e-3, warmupSteps: 1000, steps, decaySteps, floor: 0.1 });
    expect(tokensPerStep(recipe)).toBe(2_097_152);
    expect((steps * tokensPerStep(recipe)) / tokens).toBeCloseTo(1, 3);
  });

  test("explore's peak follows the batch: the official script's one node has 5e-4", () => {
    expect(parse({ preset: "explore", batch: { accumulation: 8 } }).schedule.peak).toBe(5e-4);
  });

  test("is overridden key by key, its model as a whole", () => {
    const recipe = parse({
      preset: "laptop-5M",
      model: { dim: 64, layers: 2, heads: 2 },
      schedule: { steps: 1000, warmupSteps: 10 },
    });
    expect(recipe.schedule).toEqual({
      kind: "cosine",
      peak: 2e-3,
      warmupSteps: 10,
      steps: 1000,
      decaySteps: 990,
      floor: 0.1,
    });
    expect(recipe.model).toEqual({ dim: 64, layers: 2, heads: 2 });
  });

  test("gives way to a checkpoint", () => {
    const other = parse({ preset: "laptop-5M", init: "models/x" });
    expect([other.init, other.model]).toEqual(["models/x", undefined]);
    const own = { preset: "finetune", model: "125M", data: { datasets: [{ folder: "x" }] } };
    const { init, data } = parse(own);
    expect([init, data]).toEqual([undefined, { datasets: [{ folder: "x" }], length: 512 }]);
  });
});

describe("the model's shape", () => {
  const vocabulary = { vocabSize: 4096, bosToken: undefined, eosTokens: [0] };

  test("of laptop-5M has the 5.5 million parameters that it is named for", () => {
    const config = createModelConfig(parse({ preset: "laptop-5M" }), vocabulary);
    expect(config).toMatchObject({
      dim: 192,
      headSize: 32,
      vocabSize: 4096,
      contextLength: 256,
      isTied: true,
      eosTokens: [0],
    });
    expect(countParameters(config).total).toBe(5_509_824);
  });

  test("of a preset is the paper's, with the tokenizer's vocabulary", () => {
    const config = createModelConfig(parse({ ...minimal, data: { ...minimal.data, length: 2048 } }), {
      vocabSize: 32_000,
      bosToken: 1,
      eosTokens: [2],
    });
    expect(config).toEqual(presets["125M"]);
  });

  test("has the paper's feed-forward width unless it is given", () => {
    const config = createModelConfig(parse({ ...minimal, model: { dim: 576, layers: 2, heads: 9 } }), vocabulary);
    expect(config.hidden).toBe(1536);
  });

  test("has room for every token of the tokenizer", () => {
    const recipe = parse({ ...minimal, model: { preset: "125M", vocabSize: 4000 } });
    expect(() => createModelConfig(recipe, vocabulary)).toThrow(
      "model.vocabSize: expected at least the tokenizer's 4096, got 4000.",
    );
  });
});

test("every pipeline in recipes/ is a recipe that works", async () => {
  const names = (await readdir("recipes")).filter((name) => name.endsWith(".jsonc"));
  expect(names.length).toBeGreaterThan(0);
  for (const name of names) parseRecipe(await readFile(join("recipes", name), "utf8"), name);
});
