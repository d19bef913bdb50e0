import { readFileSync } from "node:fs";
import { assert, property, string } from "fast-check";
import { describe, expect, it } from "vitest";
import { tokenizerJsonMetadata } from "../formats/gguf/gguf-tokenizer.ts";
import { createTokenizer } from "./create-tokenizer.ts";
import type { Tokenizer } from "./tokenizer.ts";
import { createBpeTrainer, type BpeTrainerOptions, type TrainedTokenizer } from "./train-bpe.ts";

type Golden = {
  specialTokens: string[];
  documents: string[];
  vocab: string[];
  merges: [string, string][];
  cases: { text: string; ids: number[] }[];
};
const golden = JSON.parse(
  readFileSync(new URL("../../test/fixtures/data/bpe.json", import.meta.url), "utf8"),
) as Golden;

function train(documents: readonly string[], options: BpeTrainerOptions): TrainedTokenizer {
  const trainer = createBpeTrainer(options);
  for (const document of documents) trainer.add(document);
  return trainer.train();
}

function open({ tokenizerJson, tokenizerConfig }: TrainedTokenizer): Tokenizer {
  const bytes = new TextEncoder().encode(JSON.stringify(tokenizerJson));
  return createTokenizer({ kind: "files", tokenizerJson: bytes, config: tokenizerConfig })!;
}

describe("a trained tokenizer", () => {
  const trained = train(golden.documents, { vocabSize: golden.vocab.length, specialTokens: golden.specialTokens });
  const tokenizer = open(trained);

  it("has the vocabulary and merges that Hugging Face's trainer finds", () => {
    const model = trained.tokenizerJson["model"] as { vocab: Record<string, number>; merges: [string, string][] };
    expect(model.merges).toEqual(golden.merges);
    const entries = Object.entries(model.vocab).sort((a, b) => a[1] - b[1]);
    expect(entries.map(([entry]) => entry)).toEqual(golden.vocab);
    expect(tokenizer.vocabSize).toBe(golden.vocab.length);
  });

  it.each(golden.cases)("gives Hugging Face's ids for $text", ({ text, ids }) => {
    expect(tokenizer.encode(text)).toEqual(ids);
    expect(tokenizer.decode(ids)).toBe(text);
  });

  it("ends a text with the first special token, and begins none", () => {
    expect(tokenizer.eosTokens).toEqual([0]);
    expect(tokenizer.encode("")).toEqual([]);
    expect([0, 1, 2, 3].map((id) => tokenizer.isSpecial(id))).toEqual([true, true, true, false]);
  });

  it("gives the same ids through a GGUF file, under a pre-tokenizer that llama.cpp knows", () => {
    const typed = tokenizerJsonMetadata(trained.tokenizerJson, { vocabSize: golden.vocab.length, eosToken: 0 });
    const metadata = new Map(Array.from(typed, ([key, { value }]): [string, unknown] => [key, value]));
    expect(metadata.get("tokenizer.ggml.pre")).toBe("smollm");
    const fromGguf = createTokenizer({ kind: "gguf", metadata })!;
    for (const { text, ids } of golden.cases) expect(fromGguf.encode(text)).toEqual(ids);
    expect(fromGguf.eosTokens).toEqual([0]);
  });

  it("gives back every text", () => {
    assert(
      property(string({ unit: "binary" }), (text) => {
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
      }),
    );
  });
});

it("counts the pairs of overlapping repeats as the merges will take them", () => {
  // Words of 2 to 7 times "a": after "aa" comes "aaaa", and not what a stale count would say.
  const words = Array.from({ length: 6 }, (_, i) => "a".repeat(i + 2)).join("\n");
  const trained = train([words, words], { vocabSize: 1 + 256 + 2 });
  expect((trained.tokenizerJson["model"] as { merges: unknown }).merges).toEqual([
    ["a", "a"],
    ["aa", "aa"],
  ]);
});

describe("createBpeTrainer", () => {
  it("says how much a text is good for", () => {
    expect(() => train(["aa aa"], { vocabSize: 300 })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tokenizer: a vocabulary of 300 needs more text, this gives 258 entries. Add text or ask for fewer.]`,
    );
  });

  it.each([
    [{ vocabSize: 256 }],
    [{ vocabSize: 1000.5 }],
    [{ vocabSize: 300, specialTokens: [] }],
    [{ vocabSize: 300, specialTokens: ["a", "a"] }],
  ])("refuses %j", (options) => {
    expect(() => createBpeTrainer(options)).toThrow(RangeError);
  });
});
