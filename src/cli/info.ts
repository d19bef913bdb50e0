/** `mobilellm info`: what a checkpoint holds. Reads headers only, however large the weights. */
import { Command } from "commander";
import { checkConfig, describeModel, fromHfConfig, type ModelConfig } from "../entries/web/design.ts";
import { type Checkpoint, openCheckpoint } from "../entries/node/index.ts";
import { type ModelOptions, parseSharing } from "./model-options.ts";
import { formatReport } from "./report.ts";
import { formatBytes, formatCount, formatTable, parseCount, UsageError } from "./usage.ts";

type InfoOptions = { model?: string; tensors?: boolean; json?: boolean } & Pick<
  ModelOptions,
  "sharing" | "contextLength"
>;

type Held = {
  readonly encoding: string;
  readonly tensors: number;
  readonly parameters: number;
  readonly bytes: number;
};

export function createInfoCommand(): Command {
  return new Command("info")
    .description("what a checkpoint holds: shape, parameters, encodings, costs")
    .argument("[model]", "a folder with config.json and weights, a .gguf file, or a Hub id")
    .option("-m, --model <path>", "the same, as an option")
    .option(
      "--sharing <schedule>",
      "what it would cost with kind[xN][:own|:first], such as immediatex2:first",
      parseSharing,
    )
    .option("--context-length <n>", "tokens that costs are counted for (default: the model's)", parseCount)
    .option("--tensors", "every tensor too")
    .option("--json", "for machines")
    .addHelpText("after", "\nExample:\n  $ mobilellm info model.gguf --tensors")
    .action(runInfo);
}

async function runInfo(argument: string | undefined, options: InfoOptions): Promise<void> {
  const path = argument ?? options.model;
  if (path === undefined) throw new UsageError("info: a model is required: a folder, a .gguf file or a Hub id.");
  if (argument !== undefined && options.model !== undefined) {
    throw new UsageError("info: give the model once, as an argument or with --model.");
  }
  const checkpoint = await openCheckpoint(path);
  try {
    console.log(options.json ? JSON.stringify(toJson(checkpoint, options), null, 2) : toText(checkpoint, options));
  } finally {
    await checkpoint.close();
  }
}

function configOf(checkpoint: Checkpoint, { sharing, contextLength }: InfoOptions): ModelConfig {
  const config = fromHfConfig(checkpoint.config);
  const changed = { ...config, ...(sharing && { sharing }), ...(contextLength && { contextLength }) };
  checkConfig(changed);
  return changed;
}

function toJson(checkpoint: Checkpoint, options: InfoOptions): object {
  const config = configOf(checkpoint, options);
  return {
    name: checkpoint.name,
    format: checkpoint.format,
    tokenizer: describeTokenizer(checkpoint),
    config,
    ...describeModel(config),
    encodings: countEncodings(checkpoint),
    ...(options.tensors && {
      tensors: [...checkpoint.tensors.values()].map(({ name, shape, encoding, source, offset, byteLength }) => ({
        name,
        shape,
        encoding,
        file: source.name,
        offset,
        bytes: byteLength,
      })),
    }),
  };
}

function toText(checkpoint: Checkpoint, options: InfoOptions): string {
  const lines = countEncodings(checkpoint).map(
    ({ encoding, tensors, bytes }) =>
      `${encoding} in ${formatCount(tensors)} ${tensors === 1 ? "tensor" : "tensors"}, ${formatBytes(bytes)}`,
  );
  const text = [
    formatReport(checkpoint.name, configOf(checkpoint, options)),
    `  ${"file".padEnd(16)}${checkpoint.format}: ${lines.join(" · ")}`,
    `  ${"tokenizer".padEnd(16)}${describeTokenizer(checkpoint) ?? "none"}`,
  ];
  if (options.tensors) {
    const rows = [...checkpoint.tensors.values()].map(({ name, shape, encoding, byteLength }) => [
      name,
      shape.join(" × "),
      encoding,
      formatBytes(byteLength),
    ]);
    text.push("", formatTable([["tensor", "shape", "encoding", "size"], ...rows]));
  }
  return text.join("\n");
}

/** Most bytes first. */
function countEncodings(checkpoint: Checkpoint): Held[] {
  const held = new Map<string, Held>();
  for (const { encoding, shape, byteLength } of checkpoint.tensors.values()) {
    const before = held.get(encoding) ?? { encoding, tensors: 0, parameters: 0, bytes: 0 };
    held.set(encoding, {
      encoding,
      tensors: before.tensors + 1,
      parameters: before.parameters + shape.reduce((product, size) => product * size, 1),
      bytes: before.bytes + byteLength,
    });
  }
  return [...held.values()].sort((a, b) => b.bytes - a.bytes);
}

/** The file that holds it, and whether it can chat. */
function describeTokenizer({ tokenizer }: Checkpoint): string | undefined {
  if (tokenizer.kind === "none") return undefined;
  const [file, template] =
    tokenizer.kind === "gguf"
      ? ["in the GGUF file", tokenizer.metadata.get("tokenizer.chat_template")]
      : [tokenizer.tokenizerJson ? "tokenizer.json" : "tokenizer.model", tokenizer.config["chat_template"]];
  return template === undefined ? file : `${file}, with a chat template`;
}
