/** Makes the parts of a tokenizer from SentencePiece pieces, of a `.model` file or of a GGUF. */
import { FormatError } from "../errors.ts";
import { createAddedTokenSplitter, type AddedToken } from "./added-tokens.ts";
import type { TokenizerParts } from "./parts.ts";
import type { SentencePieceModel } from "./sentencepiece-model.ts";
import { byteOf, createSentencePieceEncoder, SPACE } from "./sentencepiece.ts";
import {
  addedTokensOf,
  chatTemplateOf,
  namedToken,
  templateVariables,
  type TokenizerConfig,
} from "./tokenizer-config.ts";

/** Added tokens may follow the pieces, with few or no gaps. */
const MAX_ADDED_GAP = 65_536;

/** Encodes as transformers' LlamaTokenizer does with `legacy: true`: every text between special tokens gets its own dummy prefix. */
export function createSentencePieceParts(
  model: SentencePieceModel,
  config: TokenizerConfig,
  name: string,
): TokenizerParts {
  const encode = createSentencePieceEncoder(model, name);
  const added = new Map<string, AddedToken>();
  const bytes: (Uint8Array | undefined)[] = [];
  const ids = new Map<string, number>();
  const utf8 = new TextEncoder();
  for (const [id, { text, type }] of model.pieces.entries()) {
    ids.set(text, id);
    bytes[id] = type === "byte" ? Uint8Array.of(byteOf(text, name)) : utf8.encode(text.replaceAll(SPACE, " "));
    if (type === "control" || type === "unknown") {
      bytes[id] = utf8.encode(text);
      added.set(text, plainAddedToken(id, text, true));
    }
  }
  for (const token of addedTokensOf(config)) {
    if (token.id >= model.pieces.length + MAX_ADDED_GAP) {
      throw new FormatError(`${name}: added token ${token.id} lies far beyond the ${model.pieces.length} pieces.`);
    }
    added.set(token.content, token);
    ids.set(token.content, token.id);
    bytes[token.id] = utf8.encode(token.content);
  }

  const split = createAddedTokenSplitter([...added.values()]);
  const tokenOf = (key: string, fallback: number): number | undefined => {
    const content = namedToken(config, key);
    const id = content === undefined ? fallback : ids.get(content);
    if (content === undefined && model.pieces[fallback]?.type !== "control") return undefined;
    return id;
  };
  const bosToken = tokenOf("bos_token", model.bosId);
  const eosToken = tokenOf("eos_token", model.eosId);
  const addsBos = typeof config["add_bos_token"] === "boolean" ? config["add_bos_token"] : true;
  const variables = templateVariables(config);
  for (const [key, id] of [
    ["bos_token", bosToken],
    ["eos_token", eosToken],
  ] as const) {
    if (id !== undefined) variables[key] ??= model.pieces[id]?.text ?? "";
  }
  return {
    name,
    vocabSize: bytes.length,
    tokenBytes: (token) => bytes[token],
    encodeText(text, out) {
      split(
        text,
        (part) => encode(part, out),
        (id) => out.push(id),
      );
    },
    specialTokens: new Set([...added.values()].filter((token) => token.isSpecial).map((token) => token.id)),
    bosToken,
    eosTokens: eosToken === undefined ? [] : [eosToken],
    addsBos: addsBos && bosToken !== undefined,
    dropsFirstSpace: model.normalizer.addDummyPrefix,
    isReplacedPerByte: true,
    chatTemplate: chatTemplateOf(config),
    templateVariables: variables,
  };
}

/** Makes an added token that takes no white space and is found in the raw text, anywhere. */
export function plainAddedToken(id: number, content: string, isSpecial: boolean): AddedToken {
  return { id, content, isSpecial, isNormalized: false, isSingleWord: false, stripsLeft: false, stripsRight: false };
}
