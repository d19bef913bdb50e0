/** Reads the vocabulary in a GGUF file's metadata (ggml-org/ggml docs/gguf.md, `tokenizer.ggml.*`). */
import { FormatError } from "../errors.ts";
import type { AddedToken } from "./added-tokens.ts";
import { createBpeEncoder, inSequence, splitBy, type PreTokenizer } from "./bpe-tokenizer.ts";
import { byteLevelBytes, GPT2_WORDS, LLAMA3_WORDS, QWEN2_WORDS, translatePattern } from "./byte-level.ts";
import type { TokenizerParts } from "./parts.ts";
import { type Piece, PIECE_TYPES, type PieceType } from "./sentencepiece-model.ts";
import { createSentencePieceParts, plainAddedToken } from "./sentencepiece-tokenizer.ts";

const NAME = "GGUF vocabulary";

type Metadata = ReadonlyMap<string, unknown>;

/** `tokenizer.ggml.pre`: the name of a pre-tokenizer; llama.cpp's llama-vocab.cpp holds their patterns. */
const PRE_TOKENIZERS: Readonly<Record<string, { words: readonly string[]; ignoresMerges?: true; addsBos?: true }>> = {
  "gpt-2": { words: [GPT2_WORDS] },
  smollm: { words: ["\\p{N}", GPT2_WORDS] },
  default: { words: ["[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2_WORDS, "\\p{N}+", "[0-9][0-9][0-9]"] },
  "llama-bpe": { words: [LLAMA3_WORDS], ignoresMerges: true, addsBos: true },
  llama3: { words: [LLAMA3_WORDS], ignoresMerges: true, addsBos: true },
  qwen2: { words: [QWEN2_WORDS] },
};

/** What the keys say, checked. Lists are by id. */
type Vocabulary = {
  readonly tokens: readonly string[];
  readonly types: readonly PieceType[];
  /** Whether a text gets a space in front. */
  readonly addsSpacePrefix: boolean;
  readonly specials: Pick<TokenizerParts, "bosToken" | "eosTokens" | "addsBos" | "chatTemplate" | "templateVariables">;
};

/** A vocabulary of SentencePiece's BPE. */
export type LlamaVocabulary = Vocabulary & {
  readonly kind: "llama";
  readonly scores: ArrayLike<number>;
  readonly removesExtraSpaces: boolean;
};

/** A vocabulary of byte-level BPE. */
export type Gpt2Vocabulary = Vocabulary & {
  readonly kind: "gpt2";
  readonly pre: string;
  /** Patterns that cut a text into words, one after the other. */
  readonly words: readonly string[];
  readonly ignoresMerges: boolean;
  readonly merges: readonly (readonly [string, string])[];
};

/** Reads the vocabulary, ready to encode. @throws {FormatError} as `readGgufMetadata` does. */
export function readGgufVocabulary(metadata: Metadata): TokenizerParts {
  const vocabulary = readGgufMetadata(metadata);
  return vocabulary.kind === "llama" ? createLlamaParts(vocabulary) : createGpt2Parts(vocabulary);
}

/**
 * Reads and checks the keys `tokenizer.*`.
 * @throws {FormatError} if one is missing or malformed, or the kind of vocabulary is not supported.
 */
export function readGgufMetadata(metadata: Metadata): LlamaVocabulary | Gpt2Vocabulary {
  const kind = metadata.get("tokenizer.ggml.model");
  if (kind !== "llama" && kind !== "gpt2") {
    throw new FormatError(`${NAME}: tokenizer.ggml.model must be "llama" or "gpt2", got ${JSON.stringify(kind)}.`);
  }
  return kind === "llama" ? readLlama(metadata) : readGpt2(metadata);
}

function readLlama(metadata: Metadata): LlamaVocabulary {
  const tokens = strings(metadata, "tokenizer.ggml.tokens");
  const scores = numbers(metadata, "tokenizer.ggml.scores", tokens.length);
  const types = tokenTypes(metadata, tokens.length);
  for (let id = 0; id < tokens.length; id++) {
    if (!Number.isFinite(scores[id])) throw new FormatError(`${NAME}: token ${id} has no finite score.`);
    if (tokens[id] === "") types[id] = "unused"; // as llama.cpp has it: some converters left ids without a token empty
  }
  return {
    kind: "llama",
    tokens,
    types,
    scores,
    addsSpacePrefix: boolean(metadata, "tokenizer.ggml.add_space_prefix") ?? true,
    removesExtraSpaces: boolean(metadata, "tokenizer.ggml.remove_extra_whitespaces") ?? false,
    specials: readSpecials(metadata, tokens, true),
  };
}

function readGpt2(metadata: Metadata): Gpt2Vocabulary {
  const pre = metadata.get("tokenizer.ggml.pre") ?? "default";
  const settings = typeof pre === "string" && Object.hasOwn(PRE_TOKENIZERS, pre) ? PRE_TOKENIZERS[pre] : undefined;
  if (settings === undefined) {
    const known = Object.keys(PRE_TOKENIZERS).join(", ");
    throw new FormatError(`${NAME}: tokenizer.ggml.pre must be one of ${known}, got ${JSON.stringify(pre)}.`);
  }
  const tokens = strings(metadata, "tokenizer.ggml.tokens");
  const types = tokenTypes(metadata, tokens.length);
  const merges = strings(metadata, "tokenizer.ggml.merges").map((merge, index): [string, string] => {
    const space = merge.indexOf(" ", 1);
    if (space < 0) throw new FormatError(`${NAME}: merge ${index} must be two tokens, got ${JSON.stringify(merge)}.`);
    return [merge.slice(0, space), merge.slice(space + 1)];
  });
  return {
    kind: "gpt2",
    tokens,
    types,
    merges,
    addsSpacePrefix: boolean(metadata, "tokenizer.ggml.add_space_prefix") ?? false,
    pre: pre as string,
    words: settings.words,
    ignoresMerges: settings.ignoresMerges ?? false,
    specials: readSpecials(metadata, tokens, settings.addsBos ?? false),
  };
}

function createLlamaParts(vocabulary: LlamaVocabulary): TokenizerParts {
  const { tokens, types, scores, addsSpacePrefix, removesExtraSpaces, specials } = vocabulary;
  const parts = createSentencePieceParts(
    {
      pieces: tokens.map((text, id): Piece => ({
        text: text === "" ? `[EMPTY_${id}]` : text,
        score: scores[id]!,
        type: types[id]!,
      })),
      bosId: -1,
      eosId: -1,
      normalizer: {
        charsmap: new Uint8Array(0),
        addDummyPrefix: addsSpacePrefix,
        removeExtraWhitespaces: removesExtraSpaces,
        escapeWhitespaces: true,
      },
    },
    {},
    NAME,
  );
  return { ...parts, ...specials };
}

/** Whether a token is found in the text before words are cut. */
export function isAdded(type: PieceType): boolean {
  return type === "control" || type === "unknown" || type === "user-defined";
}

function createGpt2Parts(vocabulary: Gpt2Vocabulary): TokenizerParts {
  const { tokens, types, merges, words, ignoresMerges, addsSpacePrefix, specials } = vocabulary;
  const added = tokens.flatMap((text, id): AddedToken[] => {
    const type = types[id]!;
    return text !== "" && isAdded(type) ? [plainAddedToken(id, text, type !== "user-defined")] : [];
  });
  const preTokenize: PreTokenizer = inSequence(words.map((pattern) => splitBy(translatePattern(pattern))));
  const encodeText = createBpeEncoder(
    {
      vocabulary: new Map(tokens.map((text, id) => [text, id])),
      merges,
      isByteLevel: true,
      hasByteFallback: false,
      unknownId: undefined,
      fusesUnknown: false,
      ignoresMerges,
    },
    addsSpacePrefix ? (text) => (text === "" || text.startsWith(" ") ? text : ` ${text}`) : (text) => text,
    preTokenize,
    added,
    NAME,
  );
  const bytes: (Uint8Array | undefined)[] = [];
  return {
    name: NAME,
    vocabSize: tokens.length,
    tokenBytes(token) {
      const entry = tokens[token];
      return entry === undefined ? undefined : (bytes[token] ??= byteLevelBytes(entry));
    },
    encodeText,
    specialTokens: new Set(added.filter((token) => token.isSpecial).map((token) => token.id)),
    dropsFirstSpace: false,
    isReplacedPerByte: false,
    ...specials,
  };
}

function readSpecials(metadata: Metadata, tokens: readonly string[], addsBos: boolean): Vocabulary["specials"] {
  const idOf = (key: string): number | undefined => {
    const value = metadata.get(`tokenizer.ggml.${key}`);
    if (value === undefined) return undefined;
    const id = Number(value);
    if (!Number.isInteger(id) || id < 0 || id >= tokens.length) {
      throw new FormatError(
        `${NAME}: tokenizer.ggml.${key} must be below ${tokens.length}, got ${JSON.stringify(value)}.`,
      );
    }
    return id;
  };
  const bosToken = idOf("bos_token_id");
  const ends = [idOf("eos_token_id"), idOf("eot_token_id"), idOf("eom_token_id")];
  const variables: Record<string, string> = {};
  for (const name of ["bos", "eos", "unk", "pad"]) {
    const key = name === "unk" ? "unknown_token_id" : name === "pad" ? "padding_token_id" : `${name}_token_id`;
    const id = idOf(key);
    if (id !== undefined) variables[`${name}_token`] = tokens[id]!;
  }
  const template = metadata.get("tokenizer.chat_template");
  return {
    bosToken,
    eosTokens: [...new Set(ends.filter((id) => id !== undefined))],
    addsBos: (boolean(metadata, "tokenizer.ggml.add_bos_token") ?? addsBos) && bosToken !== undefined,
    chatTemplate: typeof template === "string" ? template : undefined,
    templateVariables: variables,
  };
}

function strings(metadata: Metadata, key: string): readonly string[] {
  const value = metadata.get(key);
  if (!Array.isArray(value) || !value.every((entry) => typeof entry === "string")) {
    throw new FormatError(`${NAME}: ${key} must be a list of strings.`);
  }
  return value;
}

function numbers(metadata: Metadata, key: string, count: number): ArrayLike<number> {
  const value = metadata.get(key);
  const isList = Array.isArray(value) ? value.every((entry) => typeof entry === "number") : isNumbers(value);
  if (!isList || (value as ArrayLike<number>).length !== count) {
    throw new FormatError(`${NAME}: ${key} must be a list of ${count} numbers.`);
  }
  return value as ArrayLike<number>;
}

function isNumbers(value: unknown): value is ArrayLike<number> {
  return ArrayBuffer.isView(value) && !(value instanceof DataView);
}

function tokenTypes(metadata: Metadata, count: number): PieceType[] {
  if (!metadata.has("tokenizer.ggml.token_type")) return Array.from({ length: count }, () => "normal");
  return Array.from(numbers(metadata, "tokenizer.ggml.token_type", count), (number, id) => {
    const type = PIECE_TYPES[number];
    if (type === undefined) throw new FormatError(`${NAME}: token ${id} has the unknown type ${number}.`);
    return type;
  });
}

function boolean(metadata: Metadata, key: string): boolean | undefined {
  const value = metadata.get(key);
  return typeof value === "boolean" ? value : undefined;
}
