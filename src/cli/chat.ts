/** `mobilellm chat`: a conversation in the terminal, or line by line through a pipe. */
import { writeFile } from "node:fs/promises";
import { createInterface } from "node:readline";
import { styleText } from "node:util";
import { Command } from "commander";
import { nearestName } from "../errors.ts";
import type { ChatMessage, GenerationResult, Model, Tokenizer } from "../entries/node/index.ts";
import { untilInterrupted } from "./interrupt.ts";
import {
  addModelOptions,
  addSamplingOptions,
  type ModelOptions,
  openModel,
  pickSampling,
  type SamplingOptions,
} from "./model-options.ts";
import { formatCount, parseCount } from "./usage.ts";

type Options = ModelOptions & SamplingOptions & { system?: string };

type Chat = {
  readonly model: Model;
  readonly tokenizer: Tokenizer;
  readonly options: Options;
  messages: ChatMessage[];
  last: GenerationResult | undefined;
};

const commands: Readonly<Record<string, string>> = {
  "/help": "this list",
  "/reset": "forget the conversation",
  "/save FILE": "write the conversation as JSON",
  "/stats": "tokens and speed of the last whole answer",
  "/exit": "leave, as Ctrl-D does; Ctrl-C stops an answer",
};
const commandNames = Object.keys(commands).map((command) => command.split(" ")[0]!);

export function createChatCommand(): Command {
  const command = new Command("chat").description(
    "talk with an instruction-tuned model; piped lines are answered one by one",
  );
  addModelOptions(command);
  addSamplingOptions(command);
  return command
    .option("--system <text>", "what the model is told about its role")
    .option("-n, --max-tokens <n>", "most tokens of an answer (default: what the context has room for)", parseCount)
    .addHelpText("after", '\nExample:\n  $ mobilellm chat --model model.gguf --system "Answer in one sentence."')
    .action((options: Options) => untilInterrupted((signal) => runChat(options, signal)));
}

async function runChat(options: Options, signal: AbortSignal): Promise<void> {
  const model = await openModel(options, signal);
  try {
    const { tokenizer } = model;
    if (tokenizer?.chatTemplate === undefined) {
      throw new Error(
        `chat: a chat template is required, ${model.name} has none. Use an instruction-tuned model, or mobilellm generate.`,
      );
    }
    await converse({ model, tokenizer, options, messages: firstMessages(options), last: undefined }, signal);
  } finally {
    await model.dispose();
  }
}

async function converse(chat: Chat, signal: AbortSignal): Promise<void> {
  const isTerminal = process.stdin.isTTY && process.stdout.isTTY;
  const lines = createInterface({
    input: process.stdin,
    ...(isTerminal && { output: process.stdout, prompt: styleText("bold", "> "), completer: completeCommand }),
  });
  let answering: AbortController | undefined;
  // In a terminal readline takes Ctrl-C itself; from outside it reaches `signal`.
  lines.on("SIGINT", () => {
    if (answering) return answering.abort();
    lines.write(null, { ctrl: true, name: "e" });
    lines.write(null, { ctrl: true, name: "u" }); // as a shell does: the line that was being typed is dropped
    notice("\nCtrl-D or /exit leaves.");
    lines.prompt();
  });
  const close = (): void => lines.close();
  signal.addEventListener("abort", close);
  try {
    if (isTerminal) {
      notice(
        `${chat.model.name} · ${chat.model.dtype} · ${chat.model.description}. /help lists what else you can type.`,
      );
      lines.prompt();
    }
    for await (const line of lines) {
      const text = line.trim();
      if (text === "/exit") return;
      if (text.startsWith("/")) {
        await obey(chat, text);
      } else if (text !== "") {
        answering = new AbortController();
        await answer(chat, text, isTerminal, answering.signal, signal);
        answering = undefined;
      }
      if (isTerminal) lines.prompt();
    }
    signal.throwIfAborted();
    if (isTerminal) console.log();
  } finally {
    signal.removeEventListener("abort", close);
    lines.close();
  }
}

/** Streams the answer; what was said before `stop` stays in the conversation. */
async function answer(
  chat: Chat,
  text: string,
  isTerminal: boolean,
  stop: AbortSignal,
  quit: AbortSignal,
): Promise<void> {
  const { model, tokenizer, options } = chat;
  const asked: ChatMessage[] = [...chat.messages, { role: "user", content: text }];
  // The template writes the beginning-of-text token itself.
  const prompt = tokenizer.encode(tokenizer.renderChat(asked, { addGenerationPrompt: true }), { addBos: false });
  if (prompt.length >= model.contextLength) {
    const full = `chat: the conversation has to fit ${model.contextLength} tokens, it has ${prompt.length}. /reset forgets it; --context-length makes more room.`;
    if (!isTerminal) throw new RangeError(full);
    return notice(full);
  }
  let content = "";
  try {
    const generation = model.generate(prompt, { ...pickSampling(options), signal: AbortSignal.any([stop, quit]) });
    for await (const piece of generation) {
      content += piece.text;
      process.stdout.write(piece.text);
    }
    chat.last = await generation.result;
  } catch (error) {
    if (!stop.aborted || quit.aborted) throw error;
  } finally {
    process.stdout.write("\n");
  }
  chat.messages = content === "" ? chat.messages : [...asked, { role: "assistant", content }];
  if (chat.last?.finishReason === "context" && !stop.aborted) notice("The context is full. /reset starts anew.");
}

async function obey(chat: Chat, line: string): Promise<void> {
  const [name = "", ...rest] = line.split(/\s+/);
  const argument = rest.join(" ");
  switch (name) {
    case "/help":
      return notice(
        Object.entries(commands)
          .map(([command, meaning]) => `${command.padEnd(12)}${meaning}`)
          .join("\n"),
      );
    case "/reset":
      chat.messages = firstMessages(chat.options);
      chat.last = undefined;
      return notice("Forgotten.");
    case "/save":
      return save(chat, argument);
    case "/stats":
      return notice(describeLast(chat));
    default: {
      const nearest = nearestName(name, commandNames);
      return notice(`${name} is unknown. ${nearest ? `Did you mean ${nearest}?` : "/help lists what you can type."}`);
    }
  }
}

async function save(chat: Chat, path: string): Promise<void> {
  if (path === "") return notice("/save needs a file's name, such as /save chat.json.");
  try {
    await writeFile(path, `${JSON.stringify({ model: chat.model.name, messages: chat.messages }, null, 2)}\n`);
    notice(`Saved ${chat.messages.length} messages in ${path}.`);
  } catch (error) {
    notice(`Not saved: ${error instanceof Error ? error.message : String(error)}`); // the conversation goes on
  }
}

function describeLast({ last, model }: Chat): string {
  if (last === undefined) return "No answer has come to its end yet.";
  const { promptTokens, cachedTokens, completionTokens } = last.usage;
  const used = promptTokens + completionTokens;
  return [
    `${formatCount(completionTokens)} tokens at ${last.timings.decodeTokensPerSecond.toFixed(1)} tokens/s`,
    `first after ${last.timings.prefillMs.toFixed(0)} ms (${cachedTokens} of ${promptTokens} prompt tokens were cached)`,
    `${formatCount(used)} of ${formatCount(model.contextLength)} tokens of context`,
  ].join(" · ");
}

function firstMessages({ system }: Options): ChatMessage[] {
  return system === undefined ? [] : [{ role: "system", content: system }];
}

function completeCommand(line: string): [string[], string] {
  return [line.startsWith("/") ? commandNames.filter((name) => name.startsWith(line)) : [], line];
}

/** What the program says, apart from the model's words on stdout. */
function notice(text: string): void {
  console.error(styleText("dim", text, { stream: process.stderr }));
}
