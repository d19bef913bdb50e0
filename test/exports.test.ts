/** What the package exports: its names, and that what a browser gets needs no Node. */
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";

type Target = { readonly types: string; readonly default: string };
type Conditions = Target | { readonly node: Target; readonly default: Target };

/** What a page may have to load besides the package. */
const browserPackages = ["@huggingface/jinja", "hyparquet", "hyparquet-compressors", "valibot"];

const root = new URL("../", import.meta.url);
const manifest = JSON.parse(await readFile(new URL("package.json", root), "utf8")) as {
  readonly exports: Readonly<Record<string, Conditions | string>>;
};

/** The built file of each entry, by its name and its condition. */
const entries = Object.entries(manifest.exports).flatMap(([name, conditions]): [string, "node" | "web", URL][] => {
  if (typeof conditions === "string") return [];
  const web = typeof conditions.default === "string" ? conditions.default : conditions.default.default;
  const node = "node" in conditions ? conditions.node.default : web;
  const module = name.replace(/^\./, "mobilellm");
  return [
    [module, "node", new URL(node, root)],
    [module, "web", new URL(web, root)],
  ];
});

test("exports these names at run time, and no others", async () => {
  const names: Record<string, string> = {};
  for (const [module, condition, file] of entries) {
    const loaded = (await import(file.href)) as object;
    names[`${module} (${condition})`] = Object.keys(loaded).toSorted().join(" ");
  }
  expect(names).toMatchInlineSnapshot(`
    {
      "mobilellm (node)": "BackendError FormatError ShapeError bundledModel countParameters createSampler createTokenizer feedForwardWidth loadModel openCheckpoint openTokenizer presets",
      "mobilellm (web)": "BackendError FormatError ShapeError countParameters createSampler createTokenizer feedForwardWidth loadModel presets",
      "mobilellm/convert (node)": "convert exportTokenizer quantize targetDtypes",
      "mobilellm/convert (web)": "convert exportTokenizer quantize targetDtypes",
      "mobilellm/design (node)": "checkConfig chooseKvHeads countParameters describeModel feedForwardWidth fromHfConfig presets suggestShapes",
      "mobilellm/design (web)": "checkConfig chooseKvHeads countParameters describeModel feedForwardWidth fromHfConfig presets suggestShapes",
      "mobilellm/evaluation (node)": "MissingDataError compareCalls createRow defineTask evaluate evaluateApiCalls loadTask memoryData parseApiCall parseRows readDialogue renderReport rouge taskGroups tasks",
      "mobilellm/evaluation (web)": "MissingDataError compareCalls createRow defineTask evaluate evaluateApiCalls memoryData parseApiCall parseRows readDialogue renderReport rouge taskGroups tasks",
      "mobilellm/training (node)": "TrainingError convertData createTrainer dataDefaults formatDuration formatNumber loadConversations loadTexts prepareData printRecipe readManifest recipePresets runRecipe startDashboard trainTokenizer",
      "mobilellm/training (web)": "TrainingError createTrainer loadConversations loadTexts",
    }
  `);
});

test.each(entries.filter(([, condition]) => condition === "web"))(
  "%s in a browser imports nothing of Node's",
  async (_module, _condition, file) => {
    const seen = new Set<string>();
    const packages = new Set<string>();
    const visit = async (url: URL): Promise<void> => {
      if (seen.has(url.href)) return;
      seen.add(url.href);
      const source = await readFile(url, "utf8");
      const imports =
        /^(?:import|export)\s(?:[^"';=]*\bfrom )?"([^"]+)"|\bimport\("([^"]+)"\)|new URL\("([^"]+\.js)", import\.meta\.url\)/gm;
      for (const [, name, lazy, worker] of source.matchAll(imports)) {
        const target = name ?? lazy ?? worker!;
        if (target.startsWith(".")) await visit(new URL(target, url));
        else packages.add(target);
      }
    };
    await visit(file);
    expect([...packages].filter((name) => !browserPackages.includes(name))).toEqual([]);
    expect([...seen].filter((href) => /\/node-|\.node\.js$|\/node\//.test(href.slice(root.href.length)))).toEqual([]);
  },
);
