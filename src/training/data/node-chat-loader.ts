/** Rows to finetune on from files of conversations. */
import { describe, FormatError, isObject } from "../../errors.ts";
import type { ChatMessage } from "../../tokenizer/chat-template.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { type ChatLoader, createChatLoader, encodeAt } from "./chat-loader.ts";
import type { ChatRowOptions, EncodedConversation } from "./chat-rows.ts";
import { drawFraction } from "./node-prepare.ts";
import { parseLine } from "./node-sources.ts";
import { readLines, type ReadOptions } from "./node-text.ts";

/** Which conversations become rows, and how. */
export type ChatLoaderOptions = ReadOptions & {
  /** Files of JSONL, also .gz: lines of {"messages": [{"role": "user", "content": "…"}, …]}. */
  readonly files: readonly string[];
  /** A tokenizer with a chat template. */
  readonly tokenizer: Tokenizer;
  readonly length: number;
  readonly seed: number;
  readonly packing?: ChatRowOptions["packing"] | undefined;
  /** Share of the conversations that are never trained on, drawn by what they say. Default 0.02. */
  readonly heldOut?: number | undefined;
  /** A loader's `position`, to go on from there. */
  readonly position?: unknown;
};

/**
 * Opens files of conversations. All rows are held in memory: finetuning data are small.
 * @throws {FormatError} naming the file and the line of what is no conversation.
 */
export async function openChatLoader(options: ChatLoaderOptions): Promise<ChatLoader> {
  const { files, tokenizer, length, seed, packing, heldOut: share = 0.02, position } = options;
  const splits = { train: [] as EncodedConversation[], heldOut: [] as EncodedConversation[] };
  for (const file of files) {
    for await (const { text, line } of readLines(file, options)) {
      const messages = readMessages(parseLine(text, file, line), `${file}:${line}`);
      const isHeldOut = drawFraction(JSON.stringify(messages), seed) < share;
      splits[isHeldOut ? "heldOut" : "train"].push(encodeAt(tokenizer, messages, `${file}:${line}`));
    }
  }
  return createChatLoader(files.join(", "), splits, { tokenizer, length, seed, packing, position });
}

function readMessages(row: Record<string, unknown>, where: string): ChatMessage[] {
  const { messages } = row;
  if (!Array.isArray(messages)) {
    const fields = Object.keys(row).map((key) => `"${key}"`);
    throw new FormatError(`${where}: a list "messages" is required, got ${fields.join(", ") || "no fields"}.`);
  }
  return messages.map((message: unknown, index) => {
    const { role, content } = isObject(message) ? message : {};
    if (typeof role === "string" && typeof content === "string") return { role, content };
    throw new FormatError(
      `${where}: message ${index} needs a role and a content, both text, got ${describe(message)}.`,
    );
  });
}
