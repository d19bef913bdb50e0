import { describe, expect, it } from "vitest";
import { bytesSource } from "./formats/bytes.ts";

import { FormatError } from "./errors.ts";
import { parseJsonObject } from "./formats/json.ts";
import { readSafetensors } from "./formats/safetensors.ts";
import { createTokenizer } from "./tokenizer/create-tokenizer.ts";

/** V8 quotes ten characters on either side of what it trips over, line breaks included. */
const damaged = `{"first": 1234567890,\n  "second"\r\n: x,\n\u001b[31m}\n${" ".repeat(40)}`;
const utf8 = new TextEncoder();
/** ASCII and Unicode line breaks, and what moves a terminal's cursor. */
const manyLines = /[\p{Cc}\u2028\u2029]/u;

describe("a FormatError", () => {
  it("is one line, whatever it quotes", () => {
    expect(new FormatError("a.gguf: tensor x\n\ty\u2028z\u001b[2J is missing.").message).toBe(
      "a.gguf: tensor x y z [2J is missing.",
    );
  });

  it("of a damaged config.json is one line", () => {
    expect(() => parseJsonObject(utf8.encode(damaged), "config.json")).toThrow(FormatError);
    expect(() => parseJsonObject(utf8.encode(damaged), "config.json")).not.toThrow(manyLines);
  });

  it("of a damaged tokenizer.json is one line", () => {
    const read = (): unknown => createTokenizer({ kind: "files", config: {}, tokenizerJson: utf8.encode(damaged) });
    expect(read).toThrow(FormatError);
    expect(read).not.toThrow(manyLines);
  });

  it("of a safetensors header whose names have line breaks is one line", async () => {
    const header = utf8.encode(JSON.stringify({ "a\nb": 3 }));
    const bytes = new Uint8Array(8 + header.length);
    bytes[0] = header.length;
    bytes.set(header, 8);
    await expect(readSafetensors(bytesSource("m.safetensors", bytes))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.safetensors: tensor a b must be described by an object, got 3.]`,
    );
  });
});
