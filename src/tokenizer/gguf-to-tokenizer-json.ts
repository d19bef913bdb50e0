/**
 * A GGUF file's vocabulary as tokenizer.json and tokenizer_config.json, so that what was made from a .gguf file is a folder
 * that transformers loads.
 */
import { FormatError } from "../errors.ts";
import { GPT2_WORDS } from "./byte-level.ts";
import { type Gpt2Vocabulary, isAdded, type LlamaVocabulary, readGgufMetadata } from "./gguf-vocabulary.ts";
import { SPACE } from "./sentencepiece.ts";

type Json = Readonly<Record<string, unknown>>;

/**
 * Writes tokenizer.json and tokenizer_config.json, as parsed values, for the vocabulary in a GGUF file's metadata.
 * @throws {FormatError} for what GGUF can say and tokenizer.json can't.
 */
export function ggufToTokenizerJson(metadata: ReadonlyMap<string, unknown>): { tokenizer: Json; config: Json } {
  const vocabulary = readGgufMetadata(metadata);
  const { tokens, types, specials } = vocabulary;
  const vocab: [string, number][] = [];
  const added: Json[] = [];
  for (const [id, text] of tokens.entries()) {
    const type = types[id]!;
    if (text === "" || type === "unused") continue; // holds the place of an id
    vocab.push([text, id]);
    if (isAdded(type)) added.push(addedToken(id, text, type !== "user-defined"));
  }
  const steps = vocabulary.kind === "llama" ? sentencePieceSteps(vocabulary) : byteLevelSteps(vocabulary);
  const { bosToken, addsBos, chatTemplate, templateVariables } = specials;
  const tokenizer = {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: steps.normalizer,
    pre_tokenizer: steps.preTokenizer,
    post_processor: addsBos ? startWith(tokens[bosToken!]!, bosToken!) : null,
    decoder: steps.decoder,
    model: { type: "BPE", dropout: null, ...steps.model, vocab: Object.fromEntries(vocab) },
  };
  const config = {
    tokenizer_class: "PreTrainedTokenizerFast",
    ...templateVariables,
    ...(bosToken !== undefined && { add_bos_token: addsBos }),
    ...(chatTemplate !== undefined && { chat_template: chatTemplate }),
    clean_up_tokenization_spaces: false,
  };
  return { tokenizer, config };
}

/** A user-defined piece is searched for in the input, where its spaces are no ▁ yet. */
function addedToken(id: number, text: string, special: boolean): Json {
  const content = special ? text : text.replaceAll(SPACE, " ");
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false, special };
}

/** The parts of tokenizer.json that depend on the kind. */
type Steps = {
  readonly normalizer: Json | null;
  readonly preTokenizer: Json | null;
  readonly decoder: Json;
  readonly model: Json;
};

function byteLevelSteps({ pre, words, ignoresMerges, addsSpacePrefix, merges }: Gpt2Vocabulary): Steps {
  if (addsSpacePrefix && pre !== "gpt-2") {
    throw new FormatError(
      `GGUF vocabulary: a space in front is possible with tokenizer.ggml.pre "gpt-2" only, got "${pre}".`,
    );
  }
  const byteLevel = (usesWords: boolean): Json => ({
    type: "ByteLevel",
    add_prefix_space: addsSpacePrefix,
    trim_offsets: true,
    use_regex: usesWords,
  });
  const split = (pattern: string): Json => ({
    type: "Split",
    pattern: { Regex: pattern },
    behavior: "Isolated",
    invert: false,
  });
  const inSequence = (...pretokenizers: Json[]): Json => ({ type: "Sequence", pretokenizers });
  // GPT-2's own words and single digits have names of their own, which other programs look for.
  const preTokenizer =
    words.join() === GPT2_WORDS
      ? byteLevel(true)
      : pre === "smollm"
        ? inSequence({ type: "Digits", individual_digits: true }, byteLevel(true))
        : inSequence(...words.map(split), byteLevel(false));
  return {
    normalizer: null,
    preTokenizer,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: ignoresMerges,
      merges: merges.map((pair) => pair.join(" ")), // every version reads it so
    },
  };
}

/** The steps that transformers gives a SentencePiece model (convert_slow_tokenizer.py, LlamaConverter). */
function sentencePieceSteps(vocabulary: LlamaVocabulary): Steps {
  const { tokens, types, addsSpacePrefix, removesExtraSpaces } = vocabulary;
  if (removesExtraSpaces) {
    throw new FormatError(
      "GGUF vocabulary: tokenizer.ggml.remove_extra_whitespaces has no counterpart in tokenizer.json.",
    );
  }
  const unknown = types.indexOf("unknown");
  const spaces = { type: "Replace", pattern: { String: " " }, content: SPACE };
  return {
    normalizer: addsSpacePrefix
      ? { type: "Sequence", normalizers: [{ type: "Prepend", prepend: SPACE }, spaces] }
      : spaces,
    preTokenizer: null,
    decoder: {
      type: "Sequence",
      decoders: [
        { type: "Replace", pattern: { String: SPACE }, content: " " },
        { type: "ByteFallback" },
        { type: "Fuse" },
        ...(addsSpacePrefix ? [{ type: "Strip", content: " ", start: 1, stop: 0 }] : []),
      ],
    },
    model: {
      unk_token: unknown < 0 ? null : tokens[unknown]!,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: types.filter((type) => type === "byte").length === 256, // all of them, or none
      ignore_merges: false,
      merges: mergesOf(vocabulary),
    },
  };
}

/** SentencePiece joins the pair whose piece has the best score; so every way to cut a piece in two is a merge of its rank. */
function mergesOf({ tokens, types, scores }: LlamaVocabulary): string[] {
  const ids = new Map(tokens.flatMap((text, id) => (types[id] === "normal" ? [[text, id] as const] : [])));
  const merges: { left: number; right: number; merged: number }[] = [];
  for (const [text, merged] of ids) {
    for (let at = 1; at < text.length; at++) {
      const left = ids.get(text.slice(0, at));
      const right = ids.get(text.slice(at));
      if (left !== undefined && right !== undefined) merges.push({ left, right, merged });
    }
  }
  merges.sort(
    (a, b) => scores[b.merged]! - scores[a.merged]! || a.merged - b.merged || a.left - b.left || a.right - b.right,
  );
  return merges.map(({ left, right }) => `${tokens[left]!} ${tokens[right]!}`);
}

function startWith(content: string, id: number): Json {
  const token = { SpecialToken: { id: content, type_id: 0 } };
  const text = (name: string, type_id: number): Json => ({ Sequence: { id: name, type_id } });
  return {
    type: "TemplateProcessing",
    single: [token, text("A", 0)],
    pair: [token, text("A", 0), { SpecialToken: { id: content, type_id: 1 } }, text("B", 1)],
    special_tokens: { [content]: { id: content, ids: [id], tokens: [content] } },
  };
}
