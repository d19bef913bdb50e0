import { readFileSync } from "node:fs";

import { describe, expect, it } from "vitest";

import { FormatError } from "../errors.ts";
import { createRandom } from "../random.ts";
import { createTokenizer } from "./create-tokenizer.ts";
import { createSentencePieceEncoder } from "./sentencepiece.ts";
import { type Piece, readSentencePieceModel } from "./sentencepiece-model.ts";
import type { Tokenizer } from "./tokenizer.ts";

type Case = { text: string; ids: number[]; decoded: string; skipped?: string };
type Chat = {
  template: string;
  messages: { role: string; content: string }[];
  rendered: string;
  renderedWithPrompt: string;
};

const folder = new URL("../../test/fixtures/tokenizer/", import.meta.url);
const read = (name: string): Uint8Array => new Uint8Array(readFileSync(new URL(name, folder)));
const { cases, chat } = JSON.parse(new TextDecoder().decode(read("tokenizer_cases.json"))) as {
  cases: Record<string, Case[]>;
  chat: Chat;
};

function casesOf(key: string): Case[] {
  const found = cases[key] ?? [];
  expect(found).not.toHaveLength(0);
  return found;
}

function load(name: string, config: Record<string, unknown> = {}): Tokenizer {
  const bytes = read(name);
  const files = name.endsWith(".model") ? { sentencePieceModel: bytes } : { tokenizerJson: bytes };
  return createTokenizer({ kind: "files", config, ...files })!;
}

describe.each([
  ["sp-fallback", "sp-fallback.model"],
  ["sp-charsmap", "sp-charsmap.model"],
  ["llama", "sp-fallback.model"], // transformers' conversion of the .model gives the same ids
  ["llama", "llama.json"],
  ["metaspace", "metaspace.json"],
  ["byte-level-digits", "byte-level-digits.json"],
  ["byte-level-split", "byte-level-split.json"],
])("the Python ids of %s", (key, file) => {
  const tokenizer = load(file);
  it.each(cases[key] ?? [])(`are what ${file} gives for $text`, ({ text, ids, decoded, skipped }) => {
    expect(tokenizer.encode(text, { addBos: false })).toEqual(ids);
    // SentencePiece itself shows unknown pieces as " ⁇ " and strips more; our decode follows transformers.
    if (key.startsWith("sp-") && ids.includes(0)) return;
    if (key === "sp-charsmap") expect(tokenizer.decode(ids).trimStart()).toBe(decoded);
    else expect(tokenizer.decode(ids)).toBe(decoded);
    if (skipped !== undefined) expect(tokenizer.decode(ids, { skipSpecial: true })).toBe(skipped);
  });

  it("stream as the text that decode gives, wherever the context ends", () => {
    for (const { ids, decoded } of casesOf(key)) {
      if (ids.length > 60) continue;
      for (let cut = 0; cut <= ids.length; cut++) {
        const context = ids.slice(0, cut);
        const decoder = tokenizer.createDecoder(context);
        const pieces = ids.slice(cut).map((id) => decoder.push(id));
        if (cut > 0 && context.every((id) => tokenizer.isSpecial(id))) {
          // Special tokens are no text: what follows them begins one, as if it stood alone.
          expect(pieces.join("") + decoder.end()).toBe(tokenizer.decode(ids.slice(cut)));
          continue;
        }
        const whole = tokenizer.decode(ids);
        const before = tokenizer.decode(ids.slice(0, cut)).replace(/\uFFFD+$/u, "");
        expect(whole.endsWith(pieces.join("") + decoder.end())).toBe(true);
        if (!decoded.includes("\uFFFD")) expect(before + pieces.join("")).toBe(whole);
      }
    }
  });
});

type UnusedCases = Record<string, { unused: number[]; cases: { text: string; ids: number[] }[] }>;
const unusedCases = JSON.parse(new TextDecoder().decode(read("unused_cases.json"))) as UnusedCases;

it.each(Object.entries(unusedCases))("unused pieces fall apart as in sentencepiece: %s", (_, { unused, cases }) => {
  const model = readSentencePieceModel(read("sp-fallback.model"));
  const pieces = model.pieces.map((piece, id) => (unused.includes(id) ? { ...piece, type: "unused" as const } : piece));
  const encode = createSentencePieceEncoder({ ...model, pieces }, "tokenizer.model");
  expect(cases).not.toHaveLength(0);
  for (const { text, ids } of cases) {
    const out: number[] = [];
    encode(text, out);
    expect(out, text).toEqual(ids);
  }
});

describe("encode", () => {
  const llama = load("sp-fallback.model", { add_bos_token: true, bos_token: "<s>", eos_token: { content: "</s>" } });

  it("adds the beginning-of-text token when the config or the caller says so", () => {
    expect(llama.encode("a")[0]).toBe(llama.bosToken);
    expect(llama.encode("", { addBos: true })).toEqual([1]);
    expect(llama.encode("")).toEqual([1]);
    expect(load("sp-fallback.model", { add_bos_token: false }).encode("")).toEqual([]);
    expect(load("byte-level-split.json").encode("")).toEqual([0]); // its post-processor
    expect(load("byte-level-split.json", { add_bos_token: false, bos_token: "<s>" }).encode("")).toEqual([]);
    expect(llama.eosTokens).toEqual([2]);
    expect(llama.isSpecial(2)).toBe(true);
    expect(llama.isSpecial(300)).toBe(false);
  });

  it("refuses to add a token that the files do not name", () => {
    expect(() => load("byte-level-digits.json").encode("a", { addBos: true })).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: encode: addBos needs a beginning-of-text token, which tokenizer.json does not name.]`,
    );
    expect(() => llama.encode("a", { addBOS: true } as object)).toThrowErrorMatchingInlineSnapshot(
      `[TypeError: encode: unknown option "addBOS". Did you mean "addBos"?]`,
    );
  });

  it("counts lone surrogates as U+FFFD", () => {
    for (const tokenizer of [llama, load("byte-level-digits.json")]) {
      expect(tokenizer.encode("a\uD83D b\uDC4D")).toEqual(tokenizer.encode("a\uFFFD b\uFFFD"));
    }
  });

  it("takes a long text without spaces in less than quadratic time", () => {
    const text = "thelamp".repeat(100_000);
    for (const tokenizer of [llama, load("byte-level-digits.json")]) {
      expect(tokenizer.decode(tokenizer.encode(text, { addBos: false }))).toBe(text);
    }
  });
});

describe("decode", () => {
  const llama = load("sp-fallback.model");

  it("never hands out half a character", () => {
    const decoder = llama.createDecoder([1]);
    const bytes = [0xf0, 0x9f, 0x91, 0x8d].map((byte) => byte + 3); // <0x00> is piece 3
    expect(bytes.map((token) => decoder.push(token))).toEqual(["", "", "", "👍"]);
    expect(decoder.push(0xf0 + 3)).toBe("");
    expect(decoder.end()).toBe("\uFFFD");
    expect(decoder.end()).toBe("");
  });

  it("shows tokens with their leading space, and their bytes", () => {
    const the = llama.encode("the", { addBos: false }).at(0) ?? -1;
    expect(llama.tokenText(the)).toBe(" the");
    expect(llama.tokenText(0xf0 + 3)).toBe("\uFFFD");
    expect([...llama.tokenToBytes(0xf0 + 3)]).toEqual([0xf0]);
  });

  it("gives nothing for ids beyond the vocabulary and refuses what is no id", () => {
    expect(llama.decode([llama.vocabSize])).toBe("");
    expect(() => llama.decode([-1])).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: decode: token ids must be whole numbers from 0 on, got -1.]`,
    );
  });
});

describe("renderChat", () => {
  const config = { chat_template: chat.template, bos_token: "<s>", eos_token: "</s>" };
  const tokenizer = load("sp-fallback.model", config);

  it("renders as transformers does", () => {
    expect(tokenizer.renderChat(chat.messages)).toBe(chat.rendered);
    expect(tokenizer.renderChat(chat.messages, { addGenerationPrompt: true })).toBe(chat.renderedWithPrompt);
    const named = [
      { name: "tool_use", template: "no" },
      { name: "default", template: chat.template },
    ];
    expect(load("sp-fallback.model", { ...config, chat_template: named }).chatTemplate).toBe(chat.template);
  });

  it("says what is wrong with the template or the messages", () => {
    expect(() => tokenizer.renderChat([])).toThrowErrorMatchingInlineSnapshot(
      `[TypeError: renderChat: the chat template refused the messages: no messages]`,
    );
    const loud = load("llama.json", { chat_template: "{{ raise_exception('roles\\n  must alternate') }}" });
    expect(() => loud.renderChat([])).toThrowErrorMatchingInlineSnapshot(
      `[TypeError: renderChat: the chat template refused the messages: roles must alternate]`,
    );
    expect(() => load("sp-fallback.model").renderChat([])).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: renderChat: a chat template is required, tokenizer.model has none. Use an instruction-tuned model.]`,
    );
    expect(() => load("llama.json", { chat_template: "{% if %}" }).renderChat([])).toThrow(FormatError);
  });
});

describe("a GGUF vocabulary", () => {
  const digitsJson = JSON.parse(new TextDecoder().decode(read("byte-level-digits.json"))) as {
    model: { vocab: Record<string, number>; merges: [string, string][] };
  };
  const tokens: string[] = [];
  for (const [entry, id] of Object.entries(digitsJson.model.vocab)) tokens[id] = entry;
  const gpt2 = new Map<string, unknown>([
    ["tokenizer.ggml.model", "gpt2"],
    ["tokenizer.ggml.pre", "smollm"],
    ["tokenizer.ggml.tokens", tokens],
    ["tokenizer.ggml.token_type", Int32Array.from(tokens, (_, id) => (id < 2 ? 3 : 1))],
    ["tokenizer.ggml.merges", digitsJson.model.merges.map((merge) => merge.join(" "))],
    ["tokenizer.ggml.bos_token_id", 1],
    ["tokenizer.ggml.eos_token_id", 0],
    ["tokenizer.chat_template", "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}"],
  ]);

  it("of kind gpt2 equals the tokenizer.json it came from", () => {
    const tokenizer = createTokenizer({ kind: "gguf", metadata: gpt2 })!;
    for (const { text, ids, decoded, skipped } of casesOf("byte-level-digits")) {
      expect(tokenizer.encode(text)).toEqual(ids);
      expect(tokenizer.decode(ids)).toBe(decoded);
      expect(tokenizer.decode(ids, { skipSpecial: true })).toBe(skipped);
    }
    expect(tokenizer.eosTokens).toEqual([0]);
    expect(tokenizer.renderChat([{ role: "user", content: "a" }])).toBe("<|lamp|>a<|end|>");
  });

  it.each(["[PAD]", ""])("of kind llama equals the .model it came from, with rows of padding %j behind", (padding) => {
    const model = readSentencePieceModel(read("sp-fallback.model"));
    const pad = (index: number): Piece => ({
      text: padding.replace("]", `${index}]`),
      score: -10_000,
      type: "unused",
    });
    const pieces = [...model.pieces, ...Array.from({ length: 4 }, (_, index) => pad(index))];
    const numbers: Record<string, number> = { normal: 1, unknown: 2, control: 3, unused: 5, byte: 6 };
    const tokenizer = createTokenizer({
      kind: "gguf",
      metadata: new Map<string, unknown>([
        ["tokenizer.ggml.model", "llama"],
        ["tokenizer.ggml.tokens", pieces.map((piece) => piece.text)],
        ["tokenizer.ggml.scores", Float32Array.from(pieces, (piece) => piece.score)],
        ["tokenizer.ggml.token_type", pieces.map((piece) => numbers[piece.type])],
        ["tokenizer.ggml.bos_token_id", 1],
      ]),
    })!;
    expect(tokenizer.vocabSize).toBe(424);
    for (const { text, ids } of casesOf("llama")) expect(tokenizer.encode(text)).toEqual([1, ...ids]);
    expect(tokenizer.decode(tokenizer.encode("[PAD2] [EMPTY_422]"))).toBe("<s> [PAD2] [EMPTY_422]");
  });

  it("of another kind is refused by name", () => {
    const change = (key: string, value: unknown) => () =>
      createTokenizer({ kind: "gguf", metadata: new Map([...gpt2, [key, value]]) });
    expect(change("tokenizer.ggml.model", "bert")).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: GGUF vocabulary: tokenizer.ggml.model must be "llama" or "gpt2", got "bert".]`,
    );
    expect(change("tokenizer.ggml.pre", "viking")).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: GGUF vocabulary: tokenizer.ggml.pre must be one of gpt-2, smollm, default, llama-bpe, llama3, qwen2, got "viking".]`,
    );
    expect(change("tokenizer.ggml.token_type", [1])).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: GGUF vocabulary: tokenizer.ggml.token_type must be a list of 420 numbers.]`,
    );
    expect(change("tokenizer.ggml.eos_token_id", 5000)).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: GGUF vocabulary: tokenizer.ggml.eos_token_id must be below 420, got 5000.]`,
    );
    expect(createTokenizer({ kind: "gguf", metadata: new Map() })).toBeUndefined();
    expect(createTokenizer({ kind: "none" })).toBeUndefined();
  });
});

describe("damaged files", () => {
  /** Loads and uses; only a FormatError may come of it. */
  function tryOut(name: string, bytes: Uint8Array): void {
    try {
      const files = name.endsWith(".model") ? { sentencePieceModel: bytes } : { tokenizerJson: bytes };
      const tokenizer = createTokenizer({ kind: "files", config: {}, ...files })!;
      tokenizer.decode(tokenizer.encode("  The lamp ﬁ <sail> 19 日"));
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
    }
  }

  it.each(["sp-fallback.model", "sp-charsmap.model"])("%s, cut at every byte, raises only FormatError", (name) => {
    const bytes = read(name);
    for (let length = 0; length < bytes.length; length++) tryOut(name, bytes.subarray(0, length));
  });

  it.each(["sp-fallback.model", "sp-charsmap.model", "byte-level-split.json", "llama.json"])(
    "%s with a flipped bit raises only FormatError",
    (name) => {
      const bytes = read(name);
      const random = createRandom(5);
      for (let i = 0; i < 1000; i++) {
        const copy = bytes.slice();
        const at = random.below(copy.length);
        copy[at] = (copy[at] ?? 0) ^ (1 << random.below(8));
        tryOut(name, copy);
      }
    },
  );

  it("say where", () => {
    const model = (bytes: Uint8Array) => () =>
      createTokenizer({ kind: "files", config: {}, sentencePieceModel: bytes });
    const json = (text: string) => () =>
      createTokenizer({ kind: "files", config: {}, tokenizerJson: new TextEncoder().encode(text) });
    expect(model(new Uint8Array(0))).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tokenizer.model: no pieces found. Is it a SentencePiece model?]`,
    );
    expect(model(read("sp-fallback.model").subarray(0, 1000))).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tokenizer.model: a field needs 15 bytes, 1 remain (at byte 999). Download it again.]`,
    );
    // A normal piece "a", and model type 1.
    expect(model(Uint8Array.from([10, 3, 10, 1, 97, 18, 2, 24, 1]))).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tokenizer.model: only BPE models are supported, got model type Unigram.]`,
    );
    expect(json("{")).toThrow(FormatError);
    expect(json('{"model": {"type": "WordPiece"}}')).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tokenizer.json: model of type "WordPiece" is not supported.]`,
    );
    const deep = "[".repeat(100_000) + "]".repeat(100_000);
    expect(json(`{"model": {"type": ${deep}}}`)).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tokenizer.json: model of type a list is not supported.]`,
    );
    expect(
      json('{"model": {"vocab": {"a": 0}, "merges": ["a b"]}, "decoder": {"type": "ByteLevel"}}'),
    ).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tokenizer.json: merge 0, "a b", has a part or a result outside the vocabulary.]`,
    );
  });
});
