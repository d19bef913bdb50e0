import { describe, expect, test } from "vitest";
import {
  keepTokenizerMetadata,
  preTokenizerName,
  sentencePieceMetadata,
  tokenizerJsonMetadata,
} from "./gguf-tokenizer.ts";
import { plainMetadata, type GgufValue } from "./gguf-types.ts";

const tokenizerJson = {
  pre_tokenizer: {
    type: "Sequence",
    pretokenizers: [
      { type: "Digits", individual_digits: true },
      { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true },
    ],
  },
  added_tokens: [
    { id: 0, content: "<|end|>", special: true },
    { id: 4, content: "<tool>", special: false },
  ],
  model: { type: "BPE", vocab: { "<|end|>": 0, a: 1, Ġ: 2, Ġa: 3 }, merges: ["Ġ a"] },
};

describe("tokenizerJsonMetadata", () => {
  test("lists tokens by id, with their types, and pads to the embedding", () => {
    const options = { vocabSize: 7, eosToken: 0, addsBos: false, chatTemplate: "{{ messages }}" };
    const metadata = plainMetadata(tokenizerJsonMetadata(tokenizerJson, options));
    expect(Object.fromEntries(metadata)).toEqual({
      "tokenizer.ggml.model": "gpt2",
      "tokenizer.ggml.pre": "smollm",
      "tokenizer.ggml.tokens": ["<|end|>", "a", "Ġ", "Ġa", "<tool>", "[PAD5]", "[PAD6]"],
      "tokenizer.ggml.token_type": Int32Array.of(3, 1, 1, 1, 4, 5, 5),
      "tokenizer.ggml.merges": ["Ġ a"],
      "tokenizer.ggml.eos_token_id": 0,
      "tokenizer.ggml.add_bos_token": false,
      "tokenizer.chat_template": "{{ messages }}",
    });
  });

  test("reads merges as pairs too", () => {
    const json = { ...tokenizerJson, model: { ...tokenizerJson.model, merges: [["Ġ", "a"]] } };
    expect(tokenizerJsonMetadata(json, { vocabSize: 5 }).get("tokenizer.ggml.merges")?.value).toEqual(["Ġ a"]);
  });

  test("refuses what it can't carry over", () => {
    const convert = (change: object, vocabSize = 5) =>
      tokenizerJsonMetadata({ ...tokenizerJson, ...change }, { vocabSize });
    expect(() => convert({}, 4)).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tokenizer.json: token "<tool>" must have an id below 4, got 4.]`,
    );
    expect(() => convert({ model: { type: "Unigram" } })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tokenizer.json: model must be a byte-level BPE for GGUF, got another. Give the SentencePiece model (tokenizer.model) instead.]`,
    );
    expect(() =>
      convert({ model: { ...tokenizerJson.model, byte_fallback: true } }),
    ).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tokenizer.json: model must be a byte-level BPE for GGUF, got another. Give the SentencePiece model (tokenizer.model) instead.]`,
    );
    expect(() => convert({ model: { vocab: {} } })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tokenizer.json: model must have vocab and merges.]`,
    );
    expect(() => convert({ model: { vocab: {}, merges: [3] } })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tokenizer.json: a merge must be two tokens, got 3.]`,
    );
    expect(() => convert({ added_tokens: [{ id: 1 }] })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tokenizer.json: an added token must have content, got {"id":1}.]`,
    );
    expect(() => convert({ pre_tokenizer: { type: "Whitespace" } })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tokenizer.json: llama.cpp has no name that we know for the pre_tokenizer {"type":"Whitespace"}. Give one as \`pre\`.]`,
    );
  });
});

describe("preTokenizerName", () => {
  const split = (pattern: string): object => ({
    type: "Sequence",
    pretokenizers: [
      { type: "Split", pattern: { Regex: pattern }, behavior: "Isolated", invert: false },
      { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
    ],
  });
  const pattern = (digits: string): string =>
    String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|` +
    digits +
    String.raw`| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;

  test.each([
    ["gpt-2", { type: "ByteLevel", add_prefix_space: false, trim_offsets: true }],
    ["smollm", tokenizerJson.pre_tokenizer],
    ["llama-bpe", split(pattern(String.raw`\p{N}{1,3}`))],
    ["qwen2", split(pattern(String.raw`\p{N}`))],
  ])("knows %s", (name, preTokenizer) => {
    expect(preTokenizerName(preTokenizer)).toBe(name);
  });

  test("does not guess", () => {
    expect(() => preTokenizerName(split(String.raw`\d+`))).toThrow("has no name");
    expect(() => preTokenizerName({ type: "ByteLevel", use_regex: false })).toThrow("has no name");
    expect(() => preTokenizerName({ type: "ByteLevel", add_prefix_space: true })).toThrow("has no name");
    expect(() => preTokenizerName(null)).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tokenizer.json: llama.cpp has no name that we know for the pre_tokenizer null. Give one as \`pre\`.]`,
    );
  });
});

describe("sentencePieceMetadata", () => {
  test("lists pieces with scores and types, and pads to the embedding", () => {
    const pieces = [
      { text: "<unk>", score: 0, type: "unknown" },
      { text: "<0x0A>", score: 0, type: "byte" },
      { text: "▁a", score: -1.5, type: "normal" },
    ] as const;
    const metadata = plainMetadata(sentencePieceMetadata(pieces, { vocabSize: 4, bosToken: 1, addsSpacePrefix: true }));
    expect(Object.fromEntries(metadata)).toEqual({
      "tokenizer.ggml.model": "llama",
      "tokenizer.ggml.pre": "default",
      "tokenizer.ggml.tokens": ["<unk>", "<0x0A>", "▁a", "[PAD3]"],
      "tokenizer.ggml.scores": Float32Array.of(0, 0, -1.5, -10_000),
      "tokenizer.ggml.token_type": Int32Array.of(2, 6, 1, 5),
      "tokenizer.ggml.bos_token_id": 1,
      "tokenizer.ggml.add_space_prefix": true,
    });
  });
});

describe("keepTokenizerMetadata", () => {
  test("finds the types again and leaves other keys out", () => {
    const metadata = new Map<string, GgufValue>([
      ["tokenizer.a", { type: "u32", value: 7 }],
      ["tokenizer.b", { type: "bool", value: true }],
      ["tokenizer.c", { type: "f32", value: 0.5 }],
      ["tokenizer.d", { type: "i32", value: -1 }],
      ["tokenizer.e", { type: "array", of: "i32", value: Int32Array.of(1, -2) }],
      ["tokenizer.f", { type: "array", of: "string", value: ["x", ""] }],
      ["tokenizer.g", { type: "array", of: "bool", value: [true] }],
      ["tokenizer.h", { type: "array", of: "array", value: [{ type: "array", of: "u8", value: Uint8Array.of(1, 2) }] }],
      ["tokenizer.i", { type: "u64", value: (1n << 60n) + 1n }],
    ]);
    const kept = keepTokenizerMetadata(plainMetadata(new Map([["general.x", { type: "u8", value: 1 }], ...metadata])));
    expect(kept).toEqual(metadata);
  });

  test("refuses values that no file holds", () => {
    expect(() => keepTokenizerMetadata(new Map([["tokenizer.x", {}]]))).toThrowErrorMatchingInlineSnapshot(
      `[TypeError: keepTokenizerMetadata: tokenizer.x must be text, a number, a boolean or a list of these.]`,
    );
  });
});
