/** `mobilellm design`: what a shape would cost, before it exists. */
import { Command, Option } from "commander";
import { describeModel } from "../design/describe.ts";
import { chooseKvHeads, suggestShapes } from "../design/suggest-shape.ts";
import { checkConfig, feedForwardWidth, type ModelConfig, type PresetName, presets } from "../model/config.ts";
import { formatReport } from "./report.ts";
import { formatBytes, formatCount, formatTable, parseCount, parseQuantity, UsageError } from "./usage.ts";

type DesignOptions = {
  preset?: PresetName;
  parameters?: number;
  layers?: number;
  dim?: number;
  heads?: number;
  kvHeads?: number;
  hidden?: number;
  vocab?: number;
  untied?: boolean;
  json?: boolean;
};

export function createDesignCommand(): Command {
  return new Command("design")
    .description("what a shape costs: parameters, bytes, arithmetic, battery; bare: the paper's models")
    .addOption(new Option("--preset <name>", "one of the paper's models").choices(Object.keys(presets)))
    .option("--parameters <count>", "suggest shapes under a budget such as 5M", parseQuantity)
    .option("--layers <n>", "blocks", parseCount)
    .option("--dim <n>", "width", parseCount)
    .option("--heads <n>", "query heads (default: dim / 64)", parseCount)
    .option("--kv-heads <n>", "key/value heads (default: about a third of the heads)", parseCount)
    .option("--hidden <n>", "feed-forward width (default: the paper's rule)", parseCount)
    .option("--vocab <n>", "vocabulary", parseCount)
    .option("--untied", "a head of its own")
    .option("--json", "for machines")
    .addHelpText("after", "\nExample:\n  $ mobilellm design --parameters 125M")
    .action(runDesign);
}

function runDesign(options: DesignOptions): void {
  if (options.parameters !== undefined) {
    for (const key of ["preset", "dim", "heads", "kvHeads", "hidden"] as const) {
      if (options[key] !== undefined)
        throw new UsageError(`design: --parameters chooses the shape, so it excludes ${key}.`);
    }
    const { parameters, layers, vocab, untied } = options;
    const shapes = suggestShapes({
      parameters,
      ...(layers === undefined ? {} : { layers }),
      ...(vocab === undefined ? {} : { vocabSize: vocab }),
      isTied: !untied,
    });
    return showShapes(
      shapes.map((config) => [`${config.layers} × ${config.dim}`, config]),
      options,
    );
  }
  const isBare = options.preset === undefined && options.layers === undefined && options.dim === undefined;
  if (isBare) return showShapes(Object.entries(presets), options);
  const config = createConfig(options);
  const name = options.preset ?? `${config.layers} × ${config.dim}`;
  console.log(
    options.json ? JSON.stringify({ config, ...describeModel(config) }, null, 2) : formatReport(name, config),
  );
}

function createConfig(options: DesignOptions): ModelConfig {
  if (options.preset === undefined && (options.layers === undefined || options.dim === undefined)) {
    throw new UsageError("design: a shape needs --layers and --dim. Or choose a --preset.");
  }
  const base = presets[options.preset ?? "125M"];
  const dim = options.dim ?? base.dim;
  const heads = options.heads ?? (dim === base.dim ? base.heads : Math.max(1, Math.floor(dim / base.headSize)));
  if (dim % heads !== 0) throw new UsageError(`design: --heads must divide --dim (${dim}), got ${heads}.`);
  const config: ModelConfig = {
    ...base,
    dim,
    heads,
    headSize: dim / heads,
    layers: options.layers ?? base.layers,
    kvHeads: options.kvHeads ?? (heads === base.heads ? base.kvHeads : chooseKvHeads(heads)),
    hidden: options.hidden ?? feedForwardWidth(dim),
    vocabSize: options.vocab ?? base.vocabSize,
    isTied: !options.untied,
  };
  checkConfig(config);
  return config;
}

function showShapes(shapes: readonly (readonly [string, ModelConfig])[], options: DesignOptions): void {
  const described = shapes.map(([name, config]) => ({ name, config, ...describeModel(config) }));
  if (options.json) return console.log(JSON.stringify(described, null, 2));
  const head = ["model", "layers", "dim", "heads", "kv", "hidden", "parameters", "q8", "q4", "cache/token"];
  const rows = described.map(({ name, config, parameters, weightBytes, cacheBytesPerToken }) => [
    name,
    ...[config.layers, config.dim, config.heads, config.kvHeads, config.hidden].map(String),
    formatCount(parameters.total),
    formatBytes(weightBytes.q8),
    formatBytes(weightBytes.q4),
    formatBytes(cacheBytesPerToken[config.sharing.cache].f32),
  ]);
  console.log(formatTable([head, ...rows]));
}
