/** The one entrance: from a checkpoint's tokenizer files to a Tokenizer. */
import { readGgufVocabulary } from "./gguf-vocabulary.ts";
import { readSentencePieceModel } from "./sentencepiece-model.ts";
import { createSentencePieceParts } from "./sentencepiece-tokenizer.ts";
import type { TokenizerConfig } from "./tokenizer-config.ts";
import { readTokenizerJson } from "./tokenizer-json.ts";
import { assembleTokenizer, type Tokenizer } from "./tokenizer.ts";

/** What a checkpoint brings along. Structurally the TokenizerFiles of `formats`. */
export type TokenizerSource =
  | { readonly kind: "none" }
  | {
      readonly kind: "files";
      readonly tokenizerJson?: Uint8Array;
      readonly sentencePieceModel?: Uint8Array;
      /** Parsed tokenizer_config.json. */
      readonly config: TokenizerConfig;
    }
  | { readonly kind: "gguf"; readonly metadata: ReadonlyMap<string, unknown> };

/**
 * Makes the tokenizer that a checkpoint brings along; tokenizer.json counts before tokenizer.model, as in transformers.
 * @returns undefined if there is no tokenizer.
 * @throws {FormatError} if a file is damaged, or of a kind that is not supported (Unigram, WordPiece, …).
 */
export function createTokenizer(files: TokenizerSource): Tokenizer | undefined {
  if (files.kind === "none") return undefined;
  if (files.kind === "gguf") {
    return files.metadata.has("tokenizer.ggml.model")
      ? assembleTokenizer(readGgufVocabulary(files.metadata))
      : undefined;
  }
  if (files.tokenizerJson) return assembleTokenizer(readTokenizerJson(files.tokenizerJson, files.config));
  if (!files.sentencePieceModel) return undefined;
  const model = readSentencePieceModel(files.sentencePieceModel);
  return assembleTokenizer(createSentencePieceParts(model, files.config, "tokenizer.model"));
}
