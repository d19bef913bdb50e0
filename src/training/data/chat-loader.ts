/** Rows to finetune on from conversations that are in memory. */
import { FormatError } from "../../errors.ts";
import type { ChatMessage } from "../../tokenizer/chat-template.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { chatRows, type ChatRowOptions, encodeConversation, type EncodedConversation } from "./chat-rows.ts";
import { createLoader, type Loader, type LoaderSettings } from "./loader.ts";
import { listRows, type MaskedRow } from "./rows.ts";

/** A loader of conversations. */
export type ChatLoader = Loader & {
  readonly conversations: number;
  /** Conversations that are longer than a row. */
  readonly cut: number;
};

/** Makes a loader of encoded conversations, whose `tokensPerEpoch` counts what is learned. @param name for messages. */
export function createChatLoader(
  name: string,
  splits: Readonly<Record<"train" | "heldOut", readonly EncodedConversation[]>>,
  options: LoaderSettings & {
    readonly tokenizer: Tokenizer;
    readonly packing?: ChatRowOptions["packing"] | undefined;
  },
): ChatLoader {
  const { tokenizer, length, seed, packing = "pad", position } = options;
  const paddingToken = tokenizer.eosTokens[0] ?? 0;
  const train = chatRows(splits.train, { length, packing, paddingToken });
  const heldOut = chatRows(splits.heldOut, { length, packing, paddingToken });
  const part = {
    name,
    train: listRows(train.rows, train.targets),
    heldOut: listRows(heldOut.rows, heldOut.targets),
    heldOutBytes: heldOut.rows.reduce((sum, row) => sum + learnedBytes(tokenizer, row), 0),
  };
  return Object.assign(createLoader([part], { length, seed, position }), {
    conversations: splits.train.length + splits.heldOut.length,
    cut: train.cut + heldOut.cut,
  });
}

/** Encodes a conversation. @param where it stands, for messages. @throws {FormatError} if the template refuses it. */
export function encodeAt(tokenizer: Tokenizer, messages: readonly ChatMessage[], where: string): EncodedConversation {
  try {
    return encodeConversation(tokenizer, messages);
  } catch (cause) {
    if (!(cause instanceof TypeError)) throw cause;
    throw new FormatError(`${where}: ${cause.message}`, { cause });
  }
}

function learnedBytes(tokenizer: Tokenizer, row: MaskedRow): number {
  let bytes = 0;
  for (let i = 1; i < row.tokens.length; i++) {
    const token = row.tokens[i]!;
    if (row.learn[i] === 1 && !tokenizer.isSpecial(token)) bytes += tokenizer.tokenToBytes(token).length;
  }
  return bytes;
}
