/** `mobilellm design`: what a shape would cost, before it exists. */
import { Command, Option } from "commander";
import {
  checkConfig,
  chooseKvHeads,
  describeModel,
  feedForwardWidth,
  type ModelConfig,
  type PresetName,
  presets,
  type Sharing,
  suggestShapes,
} from "../entries/web/design.ts";
import { parseSharing } from "./model-options.ts";
import { formatReport } from "./report.ts";
import { formatBytes, formatCount, formatShort, formatTable, parseCount, parseQuantity, UsageError } from "./usage.ts";

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
  contextLength?: number;
  sharing?: Sharing;
  json?: boolean;
};

/** The options that describe one shape, by their names on the command line. */
const shapeOptions = { layers: "--layers", dim: "--dim", heads: "--heads", kvHeads: "--kv-heads", hidden: "--hidden" };

export function createDesignCommand(): Command {
  return new Command("design")
    .description("what a shape costs: parameters, bytes, arithmetic, battery; bare: the paper's models")
    .addOption(new Option("--preset <name>", "one of the paper's models").choices(Object.keys(presets)))
    .option("--parameters <count>", "suggest shapes under a budget such as 5M, the usual depth first", parseQuantity)
    .option("--layers <n>", "blocks", parseCount)
    .option("--dim <n>", "width", parseCount)
    .option("--heads <n>", "query heads (default: dim / 64)", parseCount)
    .option("--kv-heads <n>", "key/value heads (default: about a third of the heads)", parseCount)
    .option("--hidden <n>", "feed-forward width (default: the paper's rule)", parseCount)
    .option("--vocab <n>", "vocabulary", parseCount)
    .option("--untied", "a head of its own")
    .option("--context-length <n>", "positions, which the cache is priced for (default: 2048)", parseCount)
    .option("--sharing <schedule>", "kind[xN][:own|:first], such as immediatex2:first", parseSharing)
    .option("--json", "for machines")
    .addHelpText(
      "after",
      "\nExample:\n  $ mobilellm design --parameters 125M\n  $ mobilellm design --preset 125M --sharing immediatex2 --context-length 4096",
    )
    .action(runDesign);
}

function runDesign(options: DesignOptions): void {
  const { preset, parameters, layers, vocab, untied } = options;
  if (parameters !== undefined) {
    for (const [key, name] of Object.entries({ preset: "--preset", ...shapeOptions })) {
      if (key !== "layers" && options[key as keyof DesignOptions] !== undefined) {
        throw new UsageError(`design: --parameters chooses the shape, so it excludes ${name}.`);
      }
    }
    const shapes = suggestShapes({
      parameters,
      ...(layers === undefined ? {} : { layers }),
      ...(vocab === undefined ? {} : { vocabSize: vocab }),
      isTied: !untied,
    });
    return showShapes(
      shapes.map((shape) => [`${shape.layers} × ${shape.dim}`, withOptions(shape, options)]),
      options,
    );
  }
  const given = Object.keys(shapeOptions).filter((key) => options[key as keyof DesignOptions] !== undefined);
  if (preset === undefined && given.length === 0) {
    return showShapes(
      Object.entries(presets).map(([name, shape]) => [name, withOptions(shape, options)]),
      options,
    );
  }
  const config = withOptions(createShape(options), options);
  const name = preset ?? `${config.layers} × ${config.dim}`;
  console.log(
    options.json ? JSON.stringify({ config, ...describeModel(config) }, null, 2) : formatReport(name, config),
  );
}

function createShape(options: DesignOptions): ModelConfig {
  if (options.preset === undefined && (options.layers === undefined || options.dim === undefined)) {
    throw new UsageError("design: a shape needs --layers and --dim. Or choose a --preset.");
  }
  const base = presets[options.preset ?? "125M"];
  const dim = options.dim ?? base.dim;
  const heads = options.heads ?? (dim === base.dim ? base.heads : Math.max(1, Math.floor(dim / base.headSize)));
  if (dim % heads !== 0 || (dim / heads) % 2 !== 0) {
    throw new UsageError(`design: --heads must divide --dim (${dim}) into heads of even size, got ${heads}.`);
  }
  const kvHeads = options.kvHeads ?? (heads === base.heads ? base.kvHeads : chooseKvHeads(heads));
  if (heads % kvHeads !== 0) {
    throw new UsageError(`design: --kv-heads must divide the heads (${heads}), got ${kvHeads}.`);
  }
  return {
    ...base,
    dim,
    heads,
    headSize: dim / heads,
    layers: options.layers ?? base.layers,
    kvHeads,
    hidden: options.hidden ?? (dim === base.dim ? base.hidden : feedForwardWidth(dim)),
  };
}

/** A shape with what the options change in any shape. */
function withOptions(shape: ModelConfig, { vocab, untied, contextLength, sharing }: DesignOptions): ModelConfig {
  const config: ModelConfig = {
    ...shape,
    vocabSize: vocab ?? shape.vocabSize,
    isTied: shape.isTied && !untied,
    contextLength: contextLength ?? shape.contextLength,
    sharing: sharing ?? shape.sharing,
  };
  checkConfig(config);
  return config;
}

function showShapes(shapes: readonly (readonly [string, ModelConfig])[], options: DesignOptions): void {
  const described = shapes.map(([name, config]) => ({ name, config, ...describeModel(config) }));
  if (options.json) return console.log(JSON.stringify(described, null, 2));
  const head = [
    "model",
    "layers",
    "dim",
    "heads",
    "kv",
    "hidden",
    "parameters",
    "q8",
    "q4",
    "cache/token",
    "FLOP/token",
  ];
  const rows = described.map(({ name, config, parameters, weightBytes, cacheBytesPerToken, flopsPerToken }) => [
    name,
    ...[config.layers, config.dim, config.heads, config.kvHeads, config.hidden].map(String),
    formatCount(parameters.total),
    formatBytes(weightBytes.q8),
    formatBytes(weightBytes.q4),
    formatBytes(cacheBytesPerToken[config.sharing.cache].f32),
    formatShort(flopsPerToken),
  ]);
  console.log(formatTable([head, ...rows]));
}
