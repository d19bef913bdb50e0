/**
 * The Tokenizer that the rest of the package sees, whatever file it came from.
 */
import { FormatError } from "../errors.ts";
import * as o from "../options.ts";
import { createChatRenderer, type ChatMessage, type ChatOptions } from "./chat-template.ts";
import type { TokenizerParts } from "./parts.ts";
import { createUtf8Stream, toWellFormed, type Utf8Stream } from "./utf8.ts";

/** How a text becomes tokens. */
export type EncodeOptions = {
  /** Put the beginning-of-text token in front. Default: as the tokenizer's files say. */
  readonly addBos?: boolean | undefined;
};

/** How tokens become text. */
export type DecodeOptions = {
  /** Leave out special tokens such as `</s>`. Default false, as in transformers. */
  readonly skipSpecial?: boolean | undefined;
};

/** Decodes tokens one by one. */
export type StreamDecoder = {
  /** Gives the text that this token completes; "" while a character is incomplete. */
  push(token: number): string;
  /** Gives U+FFFD if the last character never got complete, else "". */
  end(): string;
};

/** Turns text into token ids and back. */
export type Tokenizer = {
  /** Ids are below this; the model's embedding may have more rows. */
  readonly vocabSize: number;
  /** Begins a text. */
  readonly bosToken: number | undefined;
  /** Any of them ends a text. */
  readonly eosTokens: readonly number[];
  /**
   * Encodes a text. Where it spells a special token it becomes that token, as in transformers: escape what users type if that
   * matters. Lone surrogates count as U+FFFD. An end-of-text token is never added.
   * @example tokenizer.encode("Once upon a time"); // [1, 9038, 2501, 263, 931]
   */
  encode(text: string, options?: EncodeOptions): number[];
  /**
   * Decodes tokens. Invalid UTF-8 becomes U+FFFD. Spaces are never "cleaned up". An id without a token (rows that pad a model's
   * embedding) gives nothing, as in transformers.
   * @throws {RangeError} for what is no id at all.
   */
  decode(tokens: ArrayLike<number>, options?: DecodeOptions): string;
  /**
   * Decodes token by token. The pieces joined are the text by which `decode` of all tokens is longer than `decode` of
   * `context`, the tokens that came before.
   */
  createDecoder(context?: ArrayLike<number>, options?: DecodeOptions): StreamDecoder;
  /** Gives the bytes that a token adds to the text; a token may be a part of a character. */
  tokenToBytes(token: number): Uint8Array;
  /** Gives a token's text for display, its leading space included; bytes of half a character show as U+FFFD. */
  tokenText(token: number): string;
  /** Whether a token is no text but a sign, such as `</s>`. */
  isSpecial(token: number): boolean;
  /** The chat template's Jinja source. */
  readonly chatTemplate: string | undefined;
  /**
   * Writes the prompt for a conversation, as transformers' apply_chat_template(tokenize=False) does. It holds the beginning-of-text
   * token if the template wants one: encode it with `{ addBos: false }`.
   * @throws {RangeError} if there is no chat template, {TypeError} if the template refuses the messages.
   */
  renderChat(messages: readonly ChatMessage[], options?: ChatOptions): string;
};

const encodeSchema: o.Schema<EncodeOptions> = o.object({ addBos: o.optional(o.flag) });
const decodeSchema: o.Schema<DecodeOptions> = o.object({ skipSpecial: o.optional(o.flag) });
const chatSchema: o.Schema<ChatOptions> = o.object({ addGenerationPrompt: o.optional(o.flag) });

const NO_BYTES = new Uint8Array(0);

/** Makes a Tokenizer. @throws {FormatError} if a special token is not in the vocabulary. */
export function assembleTokenizer(parts: TokenizerParts): Tokenizer {
  const { vocabSize, bosToken, specialTokens, name } = parts;
  for (const token of [bosToken, ...parts.eosTokens]) {
    if (token !== undefined && parts.tokenBytes(token) === undefined) {
      throw new FormatError(`${name}: special token ${token} is not in the vocabulary of ${vocabSize}.`);
    }
  }
  const renderChat =
    parts.chatTemplate === undefined
      ? undefined
      : createChatRenderer(parts.chatTemplate, parts.templateVariables, name);

  function tokenToBytes(token: number): Uint8Array {
    const bytes = parts.tokenBytes(token);
    if (bytes !== undefined) return bytes;
    if (!Number.isInteger(token) || token < 0) {
      throw new RangeError(`decode: token ids must be whole numbers from 0 on, got ${token}.`);
    }
    return NO_BYTES;
  }

  function createPlainDecoder(skipSpecial: boolean): { utf8: Utf8Stream; push(token: number): string } {
    const utf8 = createUtf8Stream(parts.isReplacedPerByte);
    let isFirst = parts.dropsFirstSpace;
    return {
      utf8,
      push(token) {
        const bytes = tokenToBytes(token);
        if ((skipSpecial && specialTokens.has(token)) || bytes.length === 0) return "";
        const isSpaceDropped = isFirst && bytes[0] === 0x20;
        isFirst = false;
        return utf8.push(isSpaceDropped ? bytes.subarray(1) : bytes);
      },
    };
  }

  function decode(tokens: ArrayLike<number>, options: DecodeOptions = {}): string {
    o.check("decode", decodeSchema, options);
    const decoder = createPlainDecoder(options.skipSpecial ?? false);
    let text = "";
    for (let i = 0; i < tokens.length; i++) text += decoder.push(tokens[i]!);
    return text + decoder.utf8.end();
  }

  return {
    vocabSize,
    bosToken,
    eosTokens: parts.eosTokens,
    chatTemplate: parts.chatTemplate,
    encode(text, options = {}) {
      o.check("encode", encodeSchema, options);
      const out: number[] = [];
      if (options.addBos ?? parts.addsBos) {
        if (bosToken === undefined) {
          throw new RangeError(`encode: addBos needs a beginning-of-text token, which ${name} does not name.`);
        }
        out.push(bosToken);
      }
      parts.encodeText(toWellFormed(text), out);
      return out;
    },
    decode,
    createDecoder(context = [], options = {}) {
      o.check("createDecoder", decodeSchema, options);
      const decoder = createPlainDecoder(options.skipSpecial ?? false);
      let start = 0; // special tokens that begin the context are no text: what follows them still begins one
      while (start < context.length && specialTokens.has(context[start]!)) start++;
      for (let i = start; i < context.length; i++) decoder.push(context[i]!);
      return { push: (token) => decoder.push(token), end: () => decoder.utf8.end() };
    },
    tokenToBytes: (token) => tokenToBytes(token).slice(),
    tokenText: (token) => {
      const utf8 = createUtf8Stream();
      return utf8.push(tokenToBytes(token)) + utf8.end();
    },
    isSpecial: (token) => specialTokens.has(token),
    renderChat(messages, options = {}) {
      o.check("renderChat", chatSchema, options);
      if (renderChat === undefined) {
        throw new RangeError(
          `renderChat: a chat template is required, ${name} has none. Use an instruction-tuned model.`,
        );
      }
      return renderChat(messages, options);
    },
  };
}
