/** The options that `generate` and `chat` share: which model runs, how it runs, how tokens are chosen. */
import { InvalidArgumentError, Option, type Command } from "commander";
import {
  createSampler,
  type GenerateOptions,
  loadModel,
  type Model,
  type NodeModelOptions,
  type SamplerOptions,
  type Sharing,
} from "../entries/node/index.ts";
import { parseCount } from "./usage.ts";

export type ModelOptions = Pick<
  NodeModelOptions,
  "dtype" | "device" | "threads" | "contextLength" | "sharing" | "tokenizer"
> & { model?: string };

export type SamplingOptions = Pick<
  GenerateOptions,
  "temperature" | "topK" | "topP" | "minP" | "repetitionPenalty" | "seed" | "maxTokens"
>;

export function addModelOptions(command: Command): Command {
  return command
    .option("-m, --model <path>", "a folder, a .gguf file or a Hub id (default: the bundled model)")
    .addOption(
      new Option("--dtype <name>", "weights in memory (default: what the file holds, else q8)").choices([
        "f32",
        "bf16",
        "q8",
        "q4",
      ]),
    )
    .addOption(new Option("--device <name>", "what computes (default: wasm)").choices(["wasm", "reference"]))
    .option("--threads <n>", "default: one for each core, at most 8", parseCount)
    .option("--context-length <n>", "tokens of prompt and text (default: the model's, at most 2048)", parseCount)
    .option("--sharing <schedule>", "kind[xN][:own|:first], such as immediatex2:first", parseSharing)
    .option(
      "--tokenizer <path>",
      "a folder, a .gguf file, tokenizer.json or tokenizer.model (default: the model's own)",
    );
}

export function addSamplingOptions(command: Command): Command {
  return command
    .option("--temperature <t>", "0 takes the likeliest token (default: 0.8)", parseNumber("temperature"))
    .option("--top-k <n>", "choose among the n likeliest tokens", parseNumber("topK"))
    .option("--top-p <p>", "choose among the likeliest that reach this probability", parseNumber("topP"))
    .option("--min-p <p>", "choose among those this fraction as likely as the likeliest", parseNumber("minP"))
    .option("--repetition-penalty <x>", "above 1: fewer repetitions", parseNumber("repetitionPenalty"))
    .option("--seed <n>", "the same seed gives the same text", parseNumber("seed"));
}

/** Loads the model, with its progress on stderr. */
export async function openModel(options: ModelOptions, signal: AbortSignal): Promise<Model> {
  const { model, dtype, device, threads, contextLength, sharing, tokenizer } = options;
  const progress = createProgressLine("Loading");
  try {
    return await loadModel(model, {
      dtype,
      device,
      threads,
      contextLength,
      sharing,
      tokenizer,
      signal,
      onProgress: ({ loadedBytes, totalBytes }) => progress.show(loadedBytes / totalBytes),
    });
  } finally {
    progress.clear();
  }
}

/** A percentage on stderr while somebody watches; nothing for what is over in a moment. */
export function createProgressLine(verb: string): {
  readonly show: (fraction: number, note?: string) => void;
  readonly clear: () => void;
} {
  const showsFrom = performance.now() + 300;
  let shown = "";
  return {
    show: (fraction, note = "") => {
      const text = `${verb} ${Math.floor(100 * fraction)} %${note}`;
      if (!process.stderr.isTTY || text === shown || performance.now() < showsFrom) return;
      process.stderr.write(`\r${text}${" ".repeat(Math.max(0, shown.length - text.length))}`);
      shown = text;
    },
    clear: () => {
      if (shown !== "") process.stderr.write("\r\u001B[K");
      shown = "";
    },
  };
}

/** The options that were given, without those that only the command line knows. */
export function pickSampling(options: SamplingOptions): SamplingOptions {
  const { temperature, topK, topP, minP, repetitionPenalty, seed, maxTokens } = options;
  return { temperature, topK, topP, minP, repetitionPenalty, seed, maxTokens };
}

/** `none`, `immediatex2`, `repeatx3:first`; a kind alone means twice. */
export function parseSharing(text: string): Sharing {
  const match = /^(none|immediate|repeat|reverse)(?:x([1-4]))?(?::(own|first))?$/.exec(text);
  if (!match || (match[1] === "none" && (match[2] ?? "1") !== "1")) {
    throw new InvalidArgumentError(
      "Expected none, or immediate, repeat or reverse with x1 to x4 and :own or :first, such as immediatex2:first.",
    );
  }
  const kind = match[1] as Sharing["kind"];
  const repeats = match[2] === undefined ? (kind === "none" ? 1 : 2) : Number(match[2]);
  return { kind, repeats, cache: (match[3] ?? "own") as Sharing["cache"] };
}

/** The sampler's own rules, applied before a model is loaded. */
function parseNumber(key: keyof SamplerOptions): (text: string) => number {
  return (text) => {
    const value = text.trim() === "" ? Number.NaN : Number(text);
    try {
      createSampler({ [key]: value });
    } catch (error) {
      const [, expected] = /expected (.*?), got/.exec(String(error)) ?? [];
      throw new InvalidArgumentError(`Expected ${expected ?? "a number"}.`);
    }
    return value;
  };
}
