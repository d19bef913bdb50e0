import { describe, expect, it } from "vitest";
import { createTokenizer } from "./create-tokenizer.ts";
import { ggufToTokenizerJson } from "./gguf-to-tokenizer-json.ts";
import type { Tokenizer } from "./tokenizer.ts";

const BYTES = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
const LLAMA = {
  "tokenizer.ggml.model": "llama",
  "tokenizer.ggml.tokens": ["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a", "ab", "▁ab", "<tool>", "", ...BYTES],
  "tokenizer.ggml.scores": Float32Array.of(0, 0, 0, -9, -8, -7, -3, -1, -2, 0, 0, ...BYTES.map(() => 0)),
  "tokenizer.ggml.token_type": Int32Array.of(2, 3, 3, 1, 1, 1, 1, 1, 1, 4, 5, ...BYTES.map(() => 6)),
  "tokenizer.ggml.bos_token_id": 1,
  "tokenizer.ggml.eos_token_id": 2,
};
const GPT2 = {
  "tokenizer.ggml.model": "gpt2",
  "tokenizer.ggml.pre": "smollm",
  "tokenizer.ggml.tokens": ["<|end|>", "a", "1", "Ġ", "Ġa", "[PAD5]"],
  "tokenizer.ggml.token_type": Int32Array.of(3, 1, 1, 1, 1, 5),
  "tokenizer.ggml.merges": ["Ġ a"],
  "tokenizer.ggml.eos_token_id": 0,
};

function metadata(keys: Readonly<Record<string, unknown>>): ReadonlyMap<string, unknown> {
  return new Map(Object.entries(keys));
}

/** The vocabulary as it is, and by way of tokenizer.json. */
function both(keys: Readonly<Record<string, unknown>>): [Tokenizer, Tokenizer] {
  const { tokenizer, config } = ggufToTokenizerJson(metadata(keys));
  const tokenizerJson = new TextEncoder().encode(JSON.stringify(tokenizer));
  return [
    createTokenizer({ kind: "gguf", metadata: metadata(keys) })!,
    createTokenizer({ kind: "files", tokenizerJson, config })!,
  ];
}

describe("a SentencePiece vocabulary", () => {
  it.each(["abab ab", "a  b", "<s>ab</s> a", "ü", "", "日本"])("gives the same tokens and text for %j", (text) => {
    const [original, translated] = both(LLAMA);
    const ids = original.encode(text);
    expect(translated.encode(text)).toEqual(ids);
    expect(translated.decode(ids)).toBe(original.decode(ids));
    expect(translated.decode(ids, { skipSpecial: true })).toBe(original.decode(ids, { skipSpecial: true }));
  });

  it("finds a user-defined piece, after which a text begins anew as in transformers", () => {
    expect(both(LLAMA).map((tokenizer) => tokenizer.encode("a<tool>b"))).toEqual([
      [1, 6, 9, 5],
      [1, 6, 9, 3, 5],
    ]);
  });

  it("has a merge for every way to cut a piece in two, the best score first", () => {
    const { tokenizer } = ggufToTokenizerJson(metadata(LLAMA));
    expect(tokenizer["model"]).toMatchObject({ merges: ["a b", "▁ ab", "▁a b", "▁ a"], byte_fallback: true });
  });

  it("goes without a space in front where the file says so", () => {
    const [original, translated] = both({ ...LLAMA, "tokenizer.ggml.add_space_prefix": false });
    expect(original.encode("ab")).toEqual([1, 7]);
    expect(translated.encode("ab")).toEqual([1, 7]);
    expect(translated.decode([6])).toBe(original.decode([6]));
  });

  it("is refused where spaces are to be joined", () => {
    const keys = metadata({ ...LLAMA, "tokenizer.ggml.remove_extra_whitespaces": true });
    expect(() => ggufToTokenizerJson(keys)).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: GGUF vocabulary: tokenizer.ggml.remove_extra_whitespaces has no counterpart in tokenizer.json.]`,
    );
  });
});

describe("a byte-level vocabulary", () => {
  it.each(["gpt-2", "smollm", "llama-bpe", "qwen2", "default"])("cuts words as %s does", (pre) => {
    const [original, translated] = both({ ...GPT2, "tokenizer.ggml.pre": pre });
    for (const text of ["a a11 a", "1a<|end|>a ", " a  a"]) {
      expect(translated.encode(text)).toEqual(original.encode(text));
    }
  });

  it("keeps the special tokens, the template and what texts begin with", () => {
    const keys = {
      "tokenizer.ggml.bos_token_id": 0,
      "tokenizer.ggml.add_bos_token": true,
      "tokenizer.chat_template": "{{ x }}",
    };
    const [original, translated] = both({ ...GPT2, ...keys });
    expect(translated.encode("a")).toEqual([0, 1]);
    expect(translated).toMatchObject({ bosToken: 0, eosTokens: [0], chatTemplate: "{{ x }}" });
    expect(translated.isSpecial(0)).toBe(original.isSpecial(0));
  });

  it("may put a space in front in GPT-2's way only", () => {
    const keys = { ...GPT2, "tokenizer.ggml.add_space_prefix": true };
    const [original, translated] = both({ ...keys, "tokenizer.ggml.pre": "gpt-2" });
    expect(translated.encode("a")).toEqual(original.encode("a"));
    expect(() => ggufToTokenizerJson(metadata(keys))).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: GGUF vocabulary: a space in front is possible with tokenizer.ggml.pre "gpt-2" only, got "smollm".]`,
    );
  });
});
