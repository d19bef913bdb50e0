/** Rows to train on from what a page has in memory: texts, conversations. */
import * as o from "../../options.ts";
import type { ChatMessage } from "../../tokenizer/chat-template.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { type ChatLoader, createChatLoader, encodeAt } from "./chat-loader.ts";
import { partsOf } from "./documents.ts";
import { createPartEncoder, endOfText } from "./encode-documents.ts";
import { createLoader, type Loader, loaderEntries } from "./loader.ts";
import { windowRows } from "./rows.ts";
import { streamOf } from "./token-stream.ts";

/** How texts become rows. */
export type TextLoaderOptions = {
  /** The model's tokenizer. */
  readonly tokenizer: Tokenizer;
  /** Targets of a row, which has one token more. */
  readonly length: number;
  /** Decides the order: equal seeds give equal rows. */
  readonly seed: number;
  /** How many texts at the end are never trained on. Default: 0. */
  readonly heldOut?: number | undefined;
  /** A loader's `position`, to go on from there. */
  readonly position?: unknown;
};

/** How conversations become rows. */
export type ConversationLoaderOptions = TextLoaderOptions & {
  /** `pad` (the default): a row for each conversation. `pack`: as many whole ones in a row as fit. */
  readonly packing?: "pad" | "pack" | undefined;
};

const textEntries: o.Entries<TextLoaderOptions, TextLoaderOptions & HeldOut> = {
  ...loaderEntries,
  tokenizer: o.instance("a tokenizer"),
  heldOut: o.withDefault(o.wholeOrZero, 0),
};
type HeldOut = { readonly heldOut: number };

const textsSchema: o.Schema<TextLoaderOptions, TextLoaderOptions & HeldOut> = o.object(textEntries);
const conversationsSchema: o.Schema<ConversationLoaderOptions, ConversationLoaderOptions & HeldOut> = o.object<
  ConversationLoaderOptions,
  ConversationLoaderOptions & HeldOut
>({ ...textEntries, packing: o.optional(o.choice("pad", "pack")) });

/**
 * Cuts texts into rows and shuffles all of them in each epoch: the rows that `mobilellm data prepare` and a run make of them.
 * @example
 * const loader = loadTexts(stories, { tokenizer: model.tokenizer!, length: 256, seed: 1, heldOut: 10 });
 * await trainer.step([await loader.next(8)]); // 8 rows of 257 ids
 * @throws {FormatError} if the tokenizer names no end-of-text token, and if there is no text to train on.
 */
export function loadTexts(texts: readonly string[], options: TextLoaderOptions): Loader {
  const { tokenizer, length, seed, position, heldOut: heldOutCount } = o.check("loadTexts", textsSchema, options);
  const eosToken = endOfText(tokenizer);
  const encode = createPartEncoder(tokenizer);
  const tokensOf = (documents: readonly string[]): number[] => {
    const tokens: number[] = [];
    for (const document of documents) {
      for (const part of partsOf(document)) for (const token of encode(part)) tokens.push(token);
      tokens.push(eosToken);
    }
    return tokens;
  };
  const [train, heldOut] = split(
    texts.filter((text) => text.trim() !== ""),
    heldOutCount,
  );
  const part = {
    name: "texts",
    train: windowRows(streamOf(tokensOf(train)), length),
    heldOut: windowRows(streamOf(tokensOf(heldOut)), length),
    heldOutBytes: heldOut.reduce((sum, text) => sum + new TextEncoder().encode(text).length, 0),
  };
  return createLoader([part], { length, seed, position });
}

/**
 * Makes a loader of rows in which what the assistant says is learned, and what others say is only read.
 * @example const loader = loadConversations([[{ role: "user", content: "Hi" }, { role: "assistant", content: "Hello!" }]], options);
 * @throws {RangeError} if the tokenizer has no chat template, {FormatError} if it refuses the messages.
 */
export function loadConversations(
  conversations: readonly (readonly ChatMessage[])[],
  options: ConversationLoaderOptions,
): ChatLoader {
  const settings = o.check("loadConversations", conversationsSchema, options);
  const encoded = conversations.map((messages, index) =>
    encodeAt(settings.tokenizer, messages, `conversation ${index}`),
  );
  const [train, heldOut] = split(encoded, settings.heldOut);
  return createChatLoader("conversations", { train, heldOut }, settings);
}

function split<T>(all: readonly T[], heldOut: number): readonly [readonly T[], readonly T[]] {
  const trained = Math.max(0, all.length - heldOut);
  return [all.slice(0, trained), all.slice(trained)];
}
