/** Rows to finetune on from files of conversations. */
import { FormatError } from "../../errors.ts";
import { describe, isObject } from "../../formats/json.ts";
import type { ChatMessage } from "../../tokenizer/chat-template.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { chatRows, type ChatRowOptions, encodeConversation, type EncodedConversation } from "./chat-rows.ts";
import { createLoader, type Loader } from "./mixture.ts";
import { drawFraction } from "./node-prepare.ts";
import { parseLine } from "./node-sources.ts";
import { readLines, type ReadOptions } from "./node-text.ts";
import { listRows, type MaskedRow } from "./rows.ts";

export type ChatLoaderOptions = ReadOptions & {
  /** JSONL, also .gz: lines of {"messages": [{"role": "user", "content": "…"}, …]}. */
  readonly files: readonly string[];
  /** One with a chat template. */
  readonly tokenizer: Tokenizer;
  readonly length: number;
  readonly seed: number;
  readonly packing?: ChatRowOptions["packing"] | undefined;
  /** Share of the conversations that are never trained on, drawn by what they say. Default 0.02. */
  readonly heldOut?: number | undefined;
  /** A loader's `position`: goes on from there. */
  readonly position?: unknown;
};

export type ChatLoader = Loader & {
  readonly conversations: number;
  /** Conversations that are longer than a row. */
  readonly cut: number;
};

/**
 * All rows are held in memory: finetuning data are small. `tokensPerEpoch` counts what is learned.
 * @throws {FormatError} naming the file and the line of what is no conversation.
 */
export async function openChatLoader(options: ChatLoaderOptions): Promise<ChatLoader> {
  const { files, tokenizer, length, seed, packing = "pad", heldOut: share = 0.02, position } = options;
  const splits = { train: [] as EncodedConversation[], heldOut: [] as EncodedConversation[] };
  for (const file of files) {
    for await (const { text, line } of readLines(file, options)) {
      const messages = readMessages(parseLine(text, file, line), `${file}:${line}`);
      const isHeldOut = drawFraction(JSON.stringify(messages), seed) < share;
      splits[isHeldOut ? "heldOut" : "train"].push(encodeAt(tokenizer, messages, `${file}:${line}`));
    }
  }
  const paddingToken = tokenizer.eosTokens[0] ?? 0;
  const train = chatRows(splits.train, { length, packing, paddingToken });
  const heldOut = chatRows(splits.heldOut, { length, packing, paddingToken });
  const part = {
    name: files.join(", "),
    train: listRows(train.rows, train.targets),
    heldOut: listRows(heldOut.rows, heldOut.targets),
    heldOutBytes: heldOut.rows.reduce((sum, row) => sum + learnedBytes(tokenizer, row), 0),
  };
  const conversations = splits.train.length + splits.heldOut.length;
  return Object.assign(createLoader([part], { length, seed, position }), {
    conversations,
    cut: train.cut + heldOut.cut,
  });
}

function encodeAt(tokenizer: Tokenizer, messages: readonly ChatMessage[], where: string): EncodedConversation {
  try {
    return encodeConversation(tokenizer, messages);
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    throw new FormatError(`${where}: ${cause.message}`, { cause });
  }
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

function learnedBytes(tokenizer: Tokenizer, row: MaskedRow): number {
  let bytes = 0;
  for (let i = 1; i < row.tokens.length; i++) {
    const token = row.tokens[i]!;
    if (row.learn[i] === 1 && !tokenizer.isSpecial(token)) bytes += tokenizer.tokenToBytes(token).length;
  }
  return bytes;
}
