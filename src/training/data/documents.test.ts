import { readFileSync } from "node:fs";
import { array, assert as assertProperty, asyncProperty, constantFrom, integer, property, string } from "fast-check";
import { describe, expect, it } from "vitest";
import { createTokenizer } from "../../tokenizer/create-tokenizer.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { type DocumentPart, partsOf, splitDocuments } from "./documents.ts";
import { createPartEncoder } from "./encode-documents.ts";

async function* inBlocks(text: string, sizes: readonly number[]): AsyncGenerator<string> {
  for (let start = 0, i = 0; start < text.length; i++) {
    const size = sizes[i % sizes.length]!;
    yield text.slice(start, start + size);
    start += size;
  }
}

/** Parts put together again, which says that `isFirst` and `isLast` are right. */
function join(parts: readonly DocumentPart[]): string[] {
  const documents: string[] = [];
  let isOpen = false;
  for (const { text, isFirst, isLast } of parts) {
    expect(isFirst).toBe(!isOpen);
    if (isFirst) documents.push(text);
    else documents.push(documents.pop()! + text);
    isOpen = !isLast;
  }
  expect(isOpen).toBe(false);
  return documents;
}

async function split(text: string, separator: string, sizes: readonly number[], maxPart?: number): Promise<string[]> {
  const parts: DocumentPart[] = [];
  for await (const part of splitDocuments(inBlocks(text, sizes), separator, maxPart)) parts.push(part);
  return join(parts);
}

describe("splitDocuments", () => {
  it("cuts at the separator, and drops the line breaks around a document", async () => {
    const text = "\n\nA b.\n\nC.\n<|endoftext|>\nD.\r\n\r\n<|endoftext|>\r\nE <|endoftext|><|endoftext|>F\n";
    expect(await split(text, "<|endoftext|>", [1000])).toEqual(["A b.\n\nC.", "D.", "E ", "", "F"]);
    expect(await split("A\n\n\nB\n", "", [1000])).toEqual(["A\n\n\nB"]);
    expect(await split("A\n---\nB", "\n---\n", [1000])).toEqual(["A", "B"]);
    expect(await split("", "<|endoftext|>", [1000])).toEqual([]);
  });

  it("does so wherever blocks and parts end", async () => {
    await assertProperty(
      asyncProperty(
        array(constantFrom("a", "bc ", "\n", "<", "|>", "<|x|>", "\r\n", "🐢", "<|"), { maxLength: 60 }),
        array(integer({ min: 1, max: 9 }), { minLength: 1 }),
        async (pieces, sizes) => {
          const text = pieces.join("");
          const documents = text.split("<|x|>").map((document) => document.replace(/^[\r\n]+|[\r\n]+$/g, ""));
          if (documents.at(-1) === "") documents.pop();
          expect(await split(text, "<|x|>", sizes)).toEqual(documents);
        },
      ),
    );
  });

  it("hands on what is longer than a part while it is still being read", async () => {
    let blocks = 0;
    async function* endless(): AsyncGenerator<string> {
      for (; blocks < 1000; blocks++) yield "the river goes on and on ".repeat(100);
    }
    const parts = splitDocuments(endless(), "<|x|>", 10_000);
    const { value } = await parts.next();
    expect(value).toMatchObject({ isFirst: true, isLast: false });
    expect(blocks).toBeLessThan(10);
  });
});

describe("a document in parts", () => {
  const read = (name: string): Uint8Array =>
    new Uint8Array(readFileSync(new URL(`../../../test/fixtures/tokenizer/${name}`, import.meta.url)));
  const tokenizers: [string, Tokenizer][] = ["sp-fallback.model", "byte-level-digits.json", "metaspace.json"].map(
    (name) => {
      const bytes = read(name);
      const files = name.endsWith(".model") ? { sentencePieceModel: bytes } : { tokenizerJson: bytes };
      return [name, createTokenizer({ kind: "files", config: {}, ...files })!];
    },
  );

  it.each(tokenizers)("has the tokens of the whole: %s", (_, tokenizer) => {
    const encode = createPartEncoder(tokenizer);
    const text =
      "The lighthouse keeper, in 1907:  counted\n\nships that passed at night, one lamp for every sail. ".repeat(200);
    const whole = tokenizer.encode(text, { addBos: false });
    for (const maxPart of [500, 1777, 5000]) {
      const parts = [...partsOf(text, maxPart)];
      expect(parts.length).toBeGreaterThan(2);
      expect(parts.flatMap(encode)).toEqual(whole);
    }
  });

  it("is whole again, without half a character", () => {
    assertProperty(
      property(
        string({ unit: "grapheme", minLength: 4200, maxLength: 9000 }),
        integer({ min: 10, max: 3000 }),
        (text, maxPart) => {
          const parts = [...partsOf(text, maxPart)];
          expect(join(parts)).toEqual([text]);
          for (const part of parts) expect(part.text).not.toMatch(/\p{Surrogate}/u);
        },
      ),
      { numRuns: 30 },
    );
  });
});
