/** `mobilellm generate`: text to stdout as it comes, a line of numbers to stderr. */
import { fstatSync } from "node:fs";
import { text as readText } from "node:stream/consumers";
import { styleText } from "node:util";
import { Command, InvalidArgumentError } from "commander";
import type { GenerationResult, Model } from "../entries/node/index.ts";
import { untilInterrupted } from "./interrupt.ts";
import {
  addModelOptions,
  addSamplingOptions,
  type ModelOptions,
  openModel,
  pickSampling,
  type SamplingOptions,
} from "./model-options.ts";
import { parseCount, UsageError } from "./usage.ts";

type Options = ModelOptions &
  SamplingOptions & { stop?: string[]; ignoreEos?: boolean; tokens?: number[]; json?: boolean };

const defaultPrompt = "Once upon a time";
const defaultMaxTokens = 256;
/** How long to wait for the first bytes of a piped prompt. */
const PATIENCE_MS = 1000;

export function createGenerateCommand(): Command {
  const command = new Command("generate")
    .description("write on from a prompt")
    .argument("[prompt...]", `- waits for standard input; default: what is piped in, else "${defaultPrompt}"`);
  addModelOptions(command).option("-n, --max-tokens <n>", "most new tokens", parseCount, defaultMaxTokens);
  addSamplingOptions(command);
  return command
    .option("--stop <text>", "end before this text; may be given several times", collect)
    .option("--ignore-eos", "go on after an end-of-text token")
    .option("--tokens <ids>", "the prompt as token ids, such as 1,403,407", parseTokens)
    .option("--json", "one object with text, tokens, usage and timings, for machines")
    .addHelpText("after", '\nExample:\n  $ mobilellm generate --model model.gguf "The moon is" --temperature 0')
    .action((words: string[], options: Options) => untilInterrupted((signal) => runGenerate(words, options, signal)));
}

async function runGenerate(words: readonly string[], options: Options, signal: AbortSignal): Promise<void> {
  if (words.length > 0 && options.tokens) throw new UsageError("generate: a prompt and --tokens exclude each other.");
  const model = await openModel(options, signal);
  try {
    const { prompt, isDefault = false }: Prompt = options.tokens
      ? { prompt: options.tokens }
      : await choosePrompt(words);
    if (model.tokenizer === undefined && typeof prompt === "string") {
      throw new UsageError(
        `generate: ${model.name} came without a tokenizer. Pass --tokenizer <path>, or token ids with --tokens.`,
      );
    }
    const generation = model.generate(prompt, {
      ...pickSampling(options),
      stop: options.stop,
      ignoreEos: options.ignoreEos,
      signal,
    });
    if (options.json) {
      const { name, dtype, description } = model;
      const result = await generation.result;
      console.log(JSON.stringify({ model: name, dtype, backend: description, prompt, ...result }, null, 2));
      return;
    }
    if (isDefault) process.stdout.write(defaultPrompt);
    else if (typeof prompt === "string" && process.stdout.isTTY && process.stderr.isTTY) {
      process.stderr.write(dim(prompt));
    }
    let separator = "";
    try {
      for await (const { text, token } of generation) {
        process.stdout.write(model.tokenizer ? text : `${separator}${token}`);
        separator = " ";
      }
    } finally {
      process.stdout.write("\n");
    }
    console.error(dim(summarize(model, await generation.result)));
  } finally {
    await model.dispose();
  }
}

type Prompt = {
  readonly prompt: string | readonly number[];
  /** Nobody gave it, so that the text would be hard to follow without it. */
  readonly isDefault?: boolean;
};

async function choosePrompt(words: readonly string[]): Promise<Prompt> {
  if (words.length === 1 && words[0] === "-") return { prompt: withoutLineBreak(await readText(process.stdin)) };
  if (words.length > 0) return { prompt: words.join(" ") };
  const piped = !process.stdin.isTTY && isPipeOrFile() ? await readPipe() : "";
  return piped === "" ? { prompt: defaultPrompt, isDefault: true } : { prompt: piped };
}

/** What is piped in; "" if nothing begins to come: a pipe that was left open is no reason to wait for ever. */
async function readPipe(): Promise<string> {
  const begins = new Promise<boolean>((resolve) => {
    process.stdin.once("readable", () => resolve(true)).once("end", () => resolve(false));
    setTimeout(resolve, PATIENCE_MS, false).unref();
  });
  if (await begins) return withoutLineBreak(await readText(process.stdin));
  process.stdin.destroy();
  return "";
}

function withoutLineBreak(text: string): string {
  return text.replace(/\r?\n$/, "");
}

function isPipeOrFile(): boolean {
  try {
    const status = fstatSync(0);
    return status.isFIFO() || status.isFile() || status.isSocket();
  } catch {
    return false; // standard input was closed: `mobilellm generate <&-`
  }
}

/** One line: what ran, how much, how fast. */
export function summarize(model: Model, result: GenerationResult): string {
  const { usage, timings, finishReason } = result;
  const cached = usage.cachedTokens > 0 ? ` (${usage.cachedTokens} cached)` : "";
  return [
    model.name,
    model.dtype,
    model.description,
    `${usage.promptTokens} prompt${cached} + ${usage.completionTokens} new tokens`,
    `${timings.decodeTokensPerSecond.toFixed(1)} tokens/s`,
    `first token after ${timings.prefillMs.toFixed(0)} ms`,
    endings[finishReason],
  ].join(" · ");
}

const endings: Readonly<Record<GenerationResult["finishReason"], string>> = {
  eos: "end of text",
  stop: "stop text",
  length: "token limit",
  context: "context full",
  break: "stopped",
};

function dim(text: string): string {
  return styleText("dim", text, { stream: process.stderr });
}

function collect(value: string, before: readonly string[] = []): string[] {
  if (value === "") throw new InvalidArgumentError("Expected at least one character.");
  return [...before, value];
}

function parseTokens(text: string): number[] {
  const parts = text.split(/[\s,]+/).filter((part) => part !== "");
  if (parts.length === 0 || !parts.every((part) => /^\d+$/.test(part))) {
    throw new InvalidArgumentError("Expected token ids separated by commas, such as 1,403,407.");
  }
  return parts.map(Number);
}
