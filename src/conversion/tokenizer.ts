/** The tokenizer of a converted model: what GGUF can hold of it, and the files that transformers reads. */
import {
  type GgufTokenizerOptions,
  keepTokenizerMetadata,
  sentencePieceMetadata,
  tokenizerJsonMetadata,
  unusedPiece,
} from "../formats/gguf/gguf-tokenizer.ts";
import { type GgufMetadata, type GgufValue, plainMetadata } from "../formats/gguf/gguf-types.ts";
import type { HfConfig } from "../formats/hf-config.ts";
import { parseJsonObject, printJson } from "../formats/json.ts";
import type { TokenizerFiles } from "../formats/checkpoint.ts";
import { FormatError } from "../errors.ts";
import { createTokenizer } from "../tokenizer/create-tokenizer.ts";
import { ggufToTokenizerJson } from "../tokenizer/gguf-to-tokenizer-json.ts";
import { type Piece, readSentencePieceModel } from "../tokenizer/sentencepiece-model.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { addedTokensOf } from "../tokenizer/tokenizer-config.ts";

const utf8 = new TextEncoder();

type FileTokenizer = Extract<TokenizerFiles, { kind: "files" }>;

/** What GGUF can hold of it, and a sentence where that is not everything. */
export type GgufTokenizer = { readonly metadata: GgufMetadata; readonly note?: string };

/** Words, digits, spaces, an umlaut, CJK, an emoji: what pre-tokenizers and normalizers treat differently. */
const PROBE = "Hello  world, it's 12345 — für\n\tdas 日本語 🙂 ﬁ…";

/** Gives what GGUF keeps of a tokenizer, without a vocabulary where the files hold one that GGUF has no words for. */
export function ggufTokenizer(files: TokenizerFiles, config: HfConfig): GgufTokenizer {
  if (files.kind === "none") return { metadata: new Map() };
  if (files.kind === "gguf") return { metadata: keepTokenizerMetadata(files.metadata) };
  try {
    const original = createTokenizer(files)!;
    const metadata = translate(files, original, config);
    const translated = createTokenizer({ kind: "gguf", metadata: plainMetadata(metadata) })!;
    if (translated.encode(PROBE, { addBos: false }).join() === original.encode(PROBE, { addBos: false }).join()) {
      return { metadata };
    }
    return { metadata, note: "GGUF can't say all that the tokenizer does: some texts become other tokens." };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return {
      metadata: new Map(),
      note: `The tokenizer is left out, since GGUF can't express it; pass --tokenizer with the original. (${error.message})`,
    };
  }
}

/** A byte-level BPE comes from tokenizer.json, which counts first; any other from the SentencePiece model. */
function translate(files: FileTokenizer, tokenizer: Tokenizer, config: HfConfig): GgufMetadata {
  const [eos, eot, eom] = new Set([...tokenizer.eosTokens, ...config.eos_token_ids]);
  const { bosToken = config.bos_token_id, chatTemplate } = tokenizer;
  const options: GgufTokenizerOptions = {
    vocabSize: config.vocab_size,
    ...(bosToken !== undefined && { bosToken }),
    ...(eos !== undefined && { eosToken: eos }),
    ...(eot !== undefined && { eotToken: eot }),
    addsBos: bosToken !== undefined && tokenizer.encode("a")[0] === bosToken,
    ...(chatTemplate !== undefined && { chatTemplate }),
  };
  const metadata = new Map(translateVocabulary(files, options));
  if (eom !== undefined) metadata.set("tokenizer.ggml.eom_token_id", { type: "u32", value: eom });
  return metadata;
}

function translateVocabulary(files: FileTokenizer, options: GgufTokenizerOptions): Map<string, GgufValue> {
  const { tokenizerJson, sentencePieceModel } = files;
  if (tokenizerJson !== undefined) {
    try {
      return tokenizerJsonMetadata(parseJsonObject(tokenizerJson, "tokenizer.json"), options);
    } catch (cause) {
      if (sentencePieceModel === undefined) {
        throw new FormatError(
          "tokenizer.json: not one of the byte-level BPEs that llama.cpp knows, and there is no tokenizer.model.",
          { cause },
        );
      }
    }
  }
  const model = readSentencePieceModel(sentencePieceModel!);
  const pieces = addTokens(model.pieces, files, options.vocabSize);
  const unknown = pieces.findIndex(({ type }) => type === "unknown");
  const metadata = sentencePieceMetadata(pieces, {
    ...options,
    ...(unknown >= 0 && { unknownToken: unknown }),
    addsSpacePrefix: model.normalizer.addDummyPrefix,
  });
  if (model.normalizer.removeExtraWhitespaces) {
    metadata.set("tokenizer.ggml.remove_extra_whitespaces", { type: "bool", value: true });
  }
  return metadata;
}

/**
 * tokenizer_config.json adds tokens to the model's pieces, and says again which of those are special. Ids between them
 * without a token stay unused.
 */
function addTokens(pieces: readonly Piece[], files: FileTokenizer, vocabSize: number): readonly Piece[] {
  const all = [...pieces];
  const added = addedTokensOf(files.config).sort((a, b) => a.id - b.id);
  for (const { id, content, isSpecial } of added) {
    if (id >= vocabSize) {
      throw new FormatError(`tokenizer_config.json: token ${content} must have an id below ${vocabSize}, got ${id}.`);
    }
    for (let gap = all.length; gap < id; gap++) all.push(unusedPiece(gap));
    const known = all[id];
    if (known?.text === content && (known.type === "control" || known.type === "unknown")) continue;
    all[id] = { text: content, score: -1000, type: isSpecial ? "control" : "user-defined" };
  }
  return all;
}

/** The files of a folder in Hugging Face's layout, by name, and a sentence where they are not all that the tokenizer is. */
export type HfTokenizer = { readonly files: ReadonlyMap<string, Uint8Array>; readonly note?: string };

/** Gives a tokenizer's files, without any where a GGUF vocabulary does what tokenizer.json has no words for. */
export function hfTokenizer(files: TokenizerFiles): HfTokenizer {
  if (files.kind === "none") return { files: new Map() };
  if (files.kind === "files") return { files: filesByName(files) };
  const original = createTokenizer(files);
  if (original === undefined) return { files: new Map() };
  try {
    const { tokenizer, config } = ggufToTokenizerJson(files.metadata);
    const tokenizerJson = utf8.encode(JSON.stringify(tokenizer));
    const translated = createTokenizer({ kind: "files", tokenizerJson, config })!;
    const isSame = translated.encode(PROBE).join() === original.encode(PROBE).join();
    return {
      files: filesByName({ kind: "files", tokenizerJson, config }),
      ...(!isSame && { note: "tokenizer.json can't say all that the tokenizer does: some texts become other tokens." }),
    };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    return {
      files: new Map(),
      note: `The tokenizer is left out: copy the original model's into the folder. (${error.message})`,
    };
  }
}

function filesByName({ tokenizerJson, sentencePieceModel, config }: FileTokenizer): ReadonlyMap<string, Uint8Array> {
  const result = new Map<string, Uint8Array>();
  if (tokenizerJson) result.set("tokenizer.json", tokenizerJson);
  if (sentencePieceModel) result.set("tokenizer.model", sentencePieceModel);
  if (Object.keys(config).length > 0) result.set("tokenizer_config.json", utf8.encode(printJson(config)));
  return result;
}

/** A tokenizer and the files that it stands in, by name: first tokenizer.json or tokenizer.model. */
export type TokenizerWithFiles = {
  readonly tokenizer: Tokenizer;
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** What the files can't say, a sentence each. */
  readonly notes: readonly string[];
};

/**
 * Makes a tokenizer together with files that say the same.
 * @param path for messages.
 * @throws {FormatError} if there is no tokenizer, or none that stands in files of its own.
 */
export function tokenizerWithFiles(source: TokenizerFiles, path: string): TokenizerWithFiles {
  const tokenizer = createTokenizer(source);
  if (tokenizer === undefined) {
    throw new FormatError(
      `${path}: a tokenizer was required (tokenizer.json, tokenizer.model or one in a .gguf file), it holds none.`,
    );
  }
  const { files, note } = hfTokenizer(source);
  if (files.size === 0) {
    throw new FormatError(`${path}: a tokenizer that fits into tokenizer.json was required. ${note}`);
  }
  return { tokenizer, files, notes: note === undefined ? [] : [note] };
}
