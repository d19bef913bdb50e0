// @ts-check
/**
 * The JSON Schema of recipes, for editors: what the package's own schema says, with the docstrings of its types as descriptions, so
 * that each key is described once.
 */
import { readFileSync } from "node:fs";
import { toJsonSchema } from "@valibot/to-json-schema";

/** @typedef {import("@valibot/to-json-schema").JsonSchema} JsonSchema */

const src = new URL("../src/", import.meta.url);
const sources = ["training/run/recipe.ts", "training/optimizer.ts", "training/schedule.ts", "model/config.ts"]
  .map((file) => readFileSync(new URL(file, src), "utf8"))
  .join("\n");

/** Whose fields the keys of each object are. @type {Readonly<Record<string, readonly string[]>>} */
const typesAt = {
  "": ["FileKeys", "Recipe"],
  model: ["ModelRecipe", "ModelConfig"],
  "model.sharing": ["SharingRecipe", "Sharing"],
  data: ["DataRecipe"],
  "data.datasets": ["DatasetRecipe"],
  "data.chats": ["ChatsRecipe"],
  batch: ["BatchRecipe"],
  optimizer: ["OptimizerOptions"],
  schedule: ["ScheduleOptions"],
  "schedule.peak": ["ScaledPeak"],
  evaluate: ["EvaluateRecipe"],
  sample: ["SampleRecipe"],
  checkpoint: ["CheckpointRecipe"],
};

/**
 * @param {import("valibot").GenericSchema<unknown>} schema
 * @returns {JsonSchema}
 */
export function createRecipeSchema(schema) {
  const json = toJsonSchema(schema, { typeMode: "output", ignoreActions: ["raw_transform", "finite"] });
  describe(json, "");
  return {
    title: "A recipe of mobilellm train",
    if: { required: ["preset"] }, // which may bring what is required without it
    else: takeRequired(json),
    ...json,
  };
}

/**
 * What an object and those inside of it require, which is no longer required there; lists and alternatives keep their own.
 * @param {JsonSchema} schema
 * @returns {JsonSchema}
 */
function takeRequired(schema) {
  const { required = [], properties = {} } = schema;
  delete schema.required;
  const inside = Object.entries(properties).flatMap(([key, value]) =>
    typeof value === "object" && value.properties ? [[key, takeRequired(value)]] : [],
  );
  return { required, properties: Object.fromEntries(inside) };
}

/**
 * Gives each key of an object its docstring, and those below it theirs.
 * @param {JsonSchema} schema
 * @param {string} path
 */
function describe(schema, path) {
  for (const inner of [schema.items, ...(schema.anyOf ?? [])]) {
    if (typeof inner === "object" && !Array.isArray(inner)) describe(inner, path);
  }
  for (const [key, value] of Object.entries(schema.properties ?? {})) {
    if (typeof value !== "object") continue;
    value.description = docstringOf(typesAt[path] ?? [], key);
    describe(value, path === "" ? key : `${path}.${key}`);
  }
}

/**
 * @param {readonly string[]} types
 * @param {string} key
 */
function docstringOf(types, key) {
  const field = new RegExp(String.raw`/\*\*((?:(?!\*/).)*)\*/\s+readonly ${key.replace("$", "\\$")}\??:`, "s");
  for (const type of types) {
    const [, fields = ""] = new RegExp(String.raw`^(?:export )?type ${type} = (.*?)^\};`, "ms").exec(sources) ?? [];
    const [, text] = field.exec(fields) ?? [];
    if (text !== undefined)
      return text
        .replaceAll(/\s*\n\s*\*\s*/g, " ")
        .replaceAll("`", "")
        .trim();
  }
  throw new Error(
    `recipe schema: a docstring was required for ${key} in ${types.join(" or ")}, got none. Write one there.`,
  );
}
