/** Rows to finetune on conversations: what the assistant says is learned, what others say is only read. */
import type { ChatMessage } from "../../tokenizer/chat-template.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import type { MaskedRow } from "./rows.ts";

/** Tokens of a whole conversation; learn[i] = 1 where the assistant speaks, the end of its turn included. */
export type EncodedConversation = { readonly tokens: readonly number[]; readonly learn: readonly number[] };

/** How conversations become rows. */
export type ChatRowOptions = {
  /** T; a row has one token more. A longer conversation is cut. */
  readonly length: number;
  /** `pad`: a row for each conversation. `pack`: as many whole ones in a row as fit, in their order. */
  readonly packing: "pad" | "pack";
  /** Fills rows up; never learned. */
  readonly paddingToken: number;
};

/**
 * Writes the conversation with the tokenizer's chat template. The assistant's part of it is found by what the template
 * writes before and after the turn; a token in which both meet is learned.
 * @throws {RangeError} if the tokenizer has no chat template, {TypeError} if it refuses the messages.
 */
export function encodeConversation(tokenizer: Tokenizer, messages: readonly ChatMessage[]): EncodedConversation {
  const encode = (count: number, addGenerationPrompt: boolean): number[] =>
    tokenizer.encode(tokenizer.renderChat(messages.slice(0, count), { addGenerationPrompt }), { addBos: false });
  const tokens = encode(messages.length, false);
  const learn = tokens.map(() => 0);
  for (const [index, { role }] of messages.entries()) {
    if (role !== "assistant") continue;
    const start = commonLength(encode(index, true), tokens);
    let end = commonLength(encode(index + 1, false), tokens);
    // Templates go on after the token that ends a turn, often with a new line, which nobody has to learn to say.
    const last = tokens.slice(start, end).findLastIndex((token) => tokenizer.isSpecial(token));
    if (last >= 0) end = start + last + 1;
    learn.fill(1, start, end);
  }
  return { tokens, learn };
}

/** Makes rows of conversations, without those that hold nothing to learn; `cut` counts the conversations that were too long. */
export function chatRows(
  conversations: readonly EncodedConversation[],
  { length, packing, paddingToken }: ChatRowOptions,
): { rows: MaskedRow[]; targets: number; cut: number } {
  const size = length + 1;
  const rows: MaskedRow[] = [];
  let targets = 0;
  let cut = 0;
  let tokens: number[] = [];
  let learn: number[] = [];
  function finishRow(): void {
    const learned = learn.reduce((sum, flag, i) => sum + (i > 0 ? flag : 0), 0);
    if (learned > 0) {
      const row = { tokens: new Uint32Array(size).fill(paddingToken), learn: new Uint8Array(size) };
      row.tokens.set(tokens);
      row.learn.set(learn);
      rows.push(row);
      targets += learned;
    }
    tokens = [];
    learn = [];
  }
  for (const conversation of conversations) {
    if (conversation.tokens.length > size) cut++;
    if (packing === "pad" || tokens.length + conversation.tokens.length > size) finishRow();
    tokens.push(...conversation.tokens.slice(0, size));
    learn.push(...conversation.learn.slice(0, size));
  }
  finishRow();
  return { rows, targets, cut };
}

function commonLength(a: readonly number[], b: readonly number[]): number {
  let length = 0;
  while (length < a.length && length < b.length && a[length] === b[length]) length++;
  return length;
}
