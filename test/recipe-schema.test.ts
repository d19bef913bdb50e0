/** The JSON Schema that `mobilellm train --schema` prints says of recipes what the package says. */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type Schema, Validator } from "@cfworker/json-schema";
import { beforeAll, describe, expect, it } from "vitest";
import { recipePresets } from "../src/training/run/recipe-presets.ts";
import { parseJsonWithComments, parseRecipe, printRecipe } from "../src/training/run/recipe.ts";
import { mobilellm } from "./support/run-cli.ts";

type Described = Omit<Schema, "properties"> & { readonly properties?: Readonly<Record<string, Described>> };

let schema: Described;
let isValid: (recipe: unknown) => boolean;
beforeAll(async () => {
  const { out } = await mobilellm(["train", "--schema"]);
  schema = JSON.parse(out) as Described;
  const validator = new Validator(schema as Schema, "7");
  isValid = (recipe) => validator.validate(recipe).valid;
});

const minimal = { model: "125M", data: { datasets: [{ folder: "x" }] }, schedule: { peak: 0.001, steps: 5 } };

describe("the schema of recipes", () => {
  it("holds for every recipe in recipes/", async () => {
    for (const name of (await readdir("recipes")).filter((name) => name.endsWith(".jsonc"))) {
      const recipe = parseJsonWithComments(await readFile(join("recipes", name), "utf8"), name);
      expect(isValid(recipe), name).toBe(true);
    }
  });

  it.each(Object.keys(recipePresets))("holds for the preset %s, printed and filled in", (name) => {
    const source = printRecipe(name);
    expect(isValid(JSON.parse(source))).toBe(true);
    expect(isValid(JSON.parse(JSON.stringify(parseRecipe(source, name))))).toBe(true);
  });

  it.each([
    { $schema: "recipe.schema.json", ...minimal },
    { ...minimal, schedule: { peak: { value: 1, atTokensPerStep: 2 }, steps: 5 } },
    { ...minimal, optimizer: { clip: null, betas: [0.9, 0.99] } },
    { preset: "finetune", data: { chats: { packing: "pack" } } },
  ])("holds for %j, as does the package", (recipe) => {
    expect(isValid(recipe)).toBe(true);
    expect(() => parseRecipe(JSON.stringify(recipe), "recipe.json")).not.toThrow();
  });

  it.each([
    [],
    { model: "125M" },
    { ...minimal, model: "126M" },
    { ...minimal, model: { dim: 0 } },
    { ...minimal, schedule: { steps: 5 } },
    { ...minimal, schedule: { peak: { value: 1 }, steps: 5 } },
    { ...minimal, optimizer: { betas: [0.9] } },
    { ...minimal, optimizer: { momentum: 1 } },
    { ...minimal, batch: { rows: 1.5 } },
    { ...minimal, batch: { momentum: 1 } },
    { ...minimal, data: { datasets: [{ weight: 1 }] } },
    { preset: "explor" },
  ])("refuses %j, as does the package", (recipe) => {
    expect(isValid(recipe)).toBe(false);
    expect(() => parseRecipe(JSON.stringify(recipe), "recipe.json")).toThrow("recipe.json: ");
  });

  it("says what each key is, and what it is when it is left out", () => {
    expect(schema.properties?.["schedule"]?.properties?.["warmupSteps"]).toMatchObject({
      default: 0,
      description: expect.stringContaining("rising in a straight line"),
    });
    const undescribed = (properties: Described["properties"] = {}): string[] =>
      Object.entries(properties).flatMap(([key, { description, properties }]) =>
        description === "" || description === undefined ? [key] : undescribed(properties),
      );
    expect(undescribed(schema.properties)).toEqual([]);
  });
});
