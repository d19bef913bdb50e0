/** The `tokenizer.*` metadata of a GGUF file, from the other forms that a vocabulary comes in. */
import { describe, FormatError, isObject } from "../../errors.ts";
import type { GgufArray, GgufNumberType, GgufValue, NumberArray } from "./gguf-types.ts";

/** llama.cpp's llama_token_type. */
const tokenTypes = { normal: 1, unknown: 2, control: 3, "user-defined": 4, unused: 5, byte: 6 } as const;
/** What a token is for, in llama.cpp's words. */
export type TokenType = keyof typeof tokenTypes;

/** What a vocabulary's file does not say by itself. */
export type GgufTokenizerOptions = {
  /** Rows of the embedding; the vocabulary is padded to it with unused tokens. */
  readonly vocabSize: number;
  readonly bosToken?: number;
  readonly eosToken?: number;
  /** End of a turn, where it differs from `eosToken`. */
  readonly eotToken?: number;
  readonly unknownToken?: number;
  readonly paddingToken?: number;
  /** Whether encoding starts with `bosToken`. */
  readonly addsBos?: boolean;
  readonly addsSpacePrefix?: boolean;
  readonly chatTemplate?: string;
};

/** A token of a SentencePiece model; of two pieces that overlap, the one of the higher score is merged first. */
export type SentencePiece = { readonly text: string; readonly score: number; readonly type: TokenType };

/** Makes the metadata of a SentencePiece BPE model (tokenizer.model) from its pieces, which are listed by id. */
export function sentencePieceMetadata(
  pieces: readonly SentencePiece[],
  options: GgufTokenizerOptions,
): Map<string, GgufValue> {
  const padded = [...pieces];
  for (let id = padded.length; id < options.vocabSize; id++) padded.push(unusedPiece(id));
  return new Map<string, GgufValue>([
    ["tokenizer.ggml.model", { type: "string", value: "llama" }],
    ["tokenizer.ggml.pre", { type: "string", value: "default" }],
    ["tokenizer.ggml.tokens", { type: "array", of: "string", value: padded.map((piece) => piece.text) }],
    ["tokenizer.ggml.scores", { type: "array", of: "f32", value: Float32Array.from(padded, (piece) => piece.score) }],
    [
      "tokenizer.ggml.token_type",
      { type: "array", of: "i32", value: Int32Array.from(padded, (piece) => tokenTypes[piece.type]) },
    ],
    ...optionMetadata(options),
  ]);
}

/**
 * Makes the metadata of a byte-level BPE from a parsed tokenizer.json.
 * @param pre the pre-tokenizer's name (`tokenizer.ggml.pre`); by default found in the file.
 * @throws {FormatError} for other models, and pre-tokenizers that llama.cpp has no name for.
 */
export function tokenizerJsonMetadata(
  json: Readonly<Record<string, unknown>>,
  options: GgufTokenizerOptions,
  pre: string = preTokenizerName(json["pre_tokenizer"]),
): Map<string, GgufValue> {
  const { model } = json;
  if (!isObject(model) || (model["type"] ?? "BPE") !== "BPE" || model["byte_fallback"] === true) {
    throw new FormatError(
      "tokenizer.json: model must be a byte-level BPE for GGUF, got another. Give the SentencePiece model (tokenizer.model) instead.",
    );
  }
  const { vocab, merges } = model;
  if (!isObject(vocab) || !Array.isArray(merges)) {
    throw new FormatError("tokenizer.json: model must have vocab and merges.");
  }

  const texts: string[] = [];
  const types: TokenType[] = [];
  // The id is a claim: a vocabulary larger than the embedding is a mistake, and would make us fill a gap of any size.
  const place = (text: string, id: unknown, type: TokenType): void => {
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id >= options.vocabSize) {
      throw new FormatError(
        `tokenizer.json: token ${describe(text)} must have an id below ${options.vocabSize}, got ${describe(id)}.`,
      );
    }
    texts[id] = text;
    types[id] = type;
  };
  for (const [text, id] of Object.entries(vocab)) place(text, id, "normal");
  const added = json["added_tokens"] ?? [];
  if (!Array.isArray(added)) throw new FormatError("tokenizer.json: added_tokens must be a list.");
  for (const token of added as readonly unknown[]) {
    if (!isObject(token) || typeof token["content"] !== "string") {
      throw new FormatError(`tokenizer.json: an added token must have content, got ${describe(token)}.`);
    }
    place(token["content"], token["id"], token["special"] === true ? "control" : "user-defined");
  }
  for (let id = 0; id < options.vocabSize; id++) {
    texts[id] ??= paddingText(id);
    types[id] ??= "unused";
  }

  return new Map<string, GgufValue>([
    ["tokenizer.ggml.model", { type: "string", value: "gpt2" }],
    ["tokenizer.ggml.pre", { type: "string", value: pre }],
    ["tokenizer.ggml.tokens", { type: "array", of: "string", value: texts }],
    [
      "tokenizer.ggml.token_type",
      { type: "array", of: "i32", value: Int32Array.from(types, (type) => tokenTypes[type]) },
    ],
    ["tokenizer.ggml.merges", { type: "array", of: "string", value: (merges as readonly unknown[]).map(mergeText) }],
    ...optionMetadata(options),
  ]);
}

/** tokenizer.json has merges as "a b" or, since 2024, as ["a", "b"]. */
function mergeText(merge: unknown): string {
  if (typeof merge === "string") return merge;
  if (Array.isArray(merge) && merge.length === 2 && merge.every((part) => typeof part === "string")) {
    return merge.join(" ");
  }
  throw new FormatError(`tokenizer.json: a merge must be two tokens, got ${describe(merge)}.`);
}

/** Makes a piece that holds the place of an id without a token; no merges lead to its text. */
export function unusedPiece(id: number): SentencePiece {
  return { text: paddingText(id), score: -10_000, type: "unused" };
}

function paddingText(id: number): string {
  return `[PAD${id}]`; // as convert_hf_to_gguf.py has it
}

const LLAMA3 = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
const QWEN2 = LLAMA3.replace(String.raw`\p{N}{1,3}`, String.raw`\p{N}`);

/**
 * Finds llama.cpp's name for tokenizer.json's `pre_tokenizer`.
 * @throws {FormatError} if it has none that we know.
 */
export function preTokenizerName(preTokenizer: unknown): string {
  const steps =
    isObject(preTokenizer) && Array.isArray(preTokenizer["pretokenizers"])
      ? (preTokenizer["pretokenizers"] as readonly unknown[])
      : [preTokenizer];
  const kinds = steps.map((step) => (isObject(step) ? step["type"] : undefined));
  const first = isObject(steps[0]) ? steps[0] : {};
  const last = steps.at(-1);
  // llama.cpp puts no space before the text of a byte-level BPE, so a tokenizer that does has no name there.
  const isPlain = isObject(last) && last["add_prefix_space"] !== true;
  // ByteLevel splits by GPT-2's pattern unless told not to.
  const splitsWords = isPlain && last["use_regex"] !== false;
  if (kinds.join() === "ByteLevel" && splitsWords) return "gpt-2";
  if (kinds.join() === "Digits,ByteLevel" && first["individual_digits"] === true && splitsWords) return "smollm";
  if (kinds.join() === "Split,ByteLevel" && isPlain && !splitsWords) {
    const pattern = isObject(first["pattern"]) ? first["pattern"]["Regex"] : undefined;
    if (pattern === LLAMA3) return "llama-bpe";
    if (pattern === QWEN2) return "qwen2";
  }
  throw new FormatError(
    `tokenizer.json: llama.cpp has no name that we know for the pre_tokenizer ${describe(preTokenizer)}. Give one as \`pre\`.`,
  );
}

function optionMetadata(options: GgufTokenizerOptions): Map<string, GgufValue> {
  const result = new Map<string, GgufValue>();
  const ids = {
    bos: options.bosToken,
    eos: options.eosToken,
    eot: options.eotToken,
    unknown: options.unknownToken,
    padding: options.paddingToken,
  };
  for (const [name, value] of Object.entries(ids)) {
    if (value !== undefined) result.set(`tokenizer.ggml.${name}_token_id`, { type: "u32", value });
  }
  const flags = { add_bos_token: options.addsBos, add_space_prefix: options.addsSpacePrefix };
  for (const [name, value] of Object.entries(flags)) {
    if (value !== undefined) result.set(`tokenizer.ggml.${name}`, { type: "bool", value });
  }
  if (options.chatTemplate !== undefined) {
    result.set("tokenizer.chat_template", { type: "string", value: options.chatTemplate });
  }
  return result;
}

/**
 * Gives the `tokenizer.*` keys of a GGUF checkpoint (`TokenizerFiles` of kind "gguf") their types again, to write them into
 * another file. Lists know their type; of the scalars, whole numbers are token ids (u32).
 */
export function keepTokenizerMetadata(metadata: ReadonlyMap<string, unknown>): Map<string, GgufValue> {
  const result = new Map<string, GgufValue>();
  for (const [key, value] of metadata) {
    if (key.startsWith("tokenizer.")) result.set(key, typed(key, value));
  }
  return result;
}

function typed(key: string, value: unknown): GgufValue {
  if (typeof value === "boolean") return { type: "bool", value };
  if (typeof value === "string") return { type: "string", value };
  if (typeof value === "bigint") return { type: value < 0 ? "i64" : "u64", value };
  if (typeof value === "number") {
    if (!Number.isInteger(value)) return { type: "f32", value };
    if (value < 0) return { type: value < -(2 ** 31) ? "i64" : "i32", value };
    return { type: value < 2 ** 32 ? "u32" : "u64", value };
  }
  return typedArray(key, value);
}

const arrayTypes: ReadonlyMap<string, GgufNumberType> = new Map([
  ["Uint8Array", "u8"],
  ["Int8Array", "i8"],
  ["Uint16Array", "u16"],
  ["Int16Array", "i16"],
  ["Uint32Array", "u32"],
  ["Int32Array", "i32"],
  ["Float32Array", "f32"],
  ["Float64Array", "f64"],
  ["BigUint64Array", "u64"],
  ["BigInt64Array", "i64"],
]);

function typedArray(key: string, value: unknown): GgufArray {
  if (ArrayBuffer.isView(value)) {
    const of = arrayTypes.get((value as NumberArray)[Symbol.toStringTag]);
    if (of !== undefined) return { type: "array", of, value: value as NumberArray };
  }
  if (Array.isArray(value)) {
    const list = value as readonly unknown[];
    if (list.every((item) => typeof item === "string")) return { type: "array", of: "string", value: list };
    if (list.every((item) => typeof item === "boolean")) return { type: "array", of: "bool", value: list };
    return { type: "array", of: "array", value: list.map((item) => typedArray(key, item)) };
  }
  throw new TypeError(`keepTokenizerMetadata: ${key} must be text, a number, a boolean or a list of these.`);
}
