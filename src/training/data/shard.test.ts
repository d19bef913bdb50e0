import { array, assert as assertProperty, integer, property } from "fast-check";
import { describe, expect, it } from "vitest";
import {
  decodeTokens,
  encodeTokens,
  readShardHeader,
  SHARD_HEADER_BYTES,
  tokenDtype,
  writeShardHeader,
} from "./shard.ts";

describe("a shard", () => {
  it("has llm.c's header: 256 little-endian int32, of which magic, version and count are used", () => {
    const words = (bytes: Uint8Array): number[] =>
      Array.from({ length: 256 }, (_, i) => new DataView(bytes.buffer).getInt32(4 * i, true));
    const rest = Array.from({ length: 253 }, () => 0);
    expect(words(writeShardHeader({ dtype: "uint16", tokens: 5 }))).toEqual([20240520, 1, 5, ...rest]);
    expect(words(writeShardHeader({ dtype: "uint32", tokens: 7 }))).toEqual([20240801, 7, 7, ...rest]);
    expect(Array.from(encodeTokens([1, 258], "uint16"))).toEqual([1, 0, 2, 1]);
    expect(Array.from(encodeTokens([65_538], "uint32"))).toEqual([2, 0, 1, 0]);
  });

  it("gives back its tokens, also from an odd place in memory", () => {
    assertProperty(
      property(array(integer({ min: 0, max: 65_535 })), integer({ min: 0, max: 3 }), (tokens, offset) => {
        for (const dtype of ["uint16", "uint32"] as const) {
          const bytes = encodeTokens(tokens, dtype);
          const moved = new Uint8Array(offset + bytes.length).subarray(offset);
          moved.set(bytes);
          expect(Array.from(decodeTokens(moved, dtype))).toEqual(tokens);
        }
      }),
    );
  });

  it("takes 16 bits an id as long as they suffice", () => {
    expect(tokenDtype(65_536)).toBe("uint16");
    expect(tokenDtype(65_537)).toBe("uint32");
  });

  it("is refused unless it is whole", () => {
    const header = writeShardHeader({ dtype: "uint16", tokens: 5 });
    expect(readShardHeader(header, SHARD_HEADER_BYTES + 10, "a.bin")).toEqual({ dtype: "uint16", tokens: 5 });
    const change = (word: number, value: number): Uint8Array => {
      const changed = header.slice();
      new DataView(changed.buffer).setInt32(4 * word, value, true);
      return changed;
    };
    const size = SHARD_HEADER_BYTES + 10;
    expect(() => readShardHeader(header, size - 1, "a.bin")).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: a.bin: 5 tokens of uint16 need a file of 1034 bytes, got 1033. Copy or make it again.]`,
    );
    expect(() => readShardHeader(change(0, 20240521), size, "a.bin")).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: a.bin: an llm.c token shard begins with 20240520 or 20240801, this begins with 20240521.]`,
    );
    expect(() => readShardHeader(change(1, 2), size, "a.bin")).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: a.bin: version 1 of llm.c's format was required, got 2.]`,
    );
    expect(() => readShardHeader(change(2, -1), size, "a.bin")).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: a.bin: -1 tokens of uint16 need a file of 1022 bytes, got 1034. Copy or make it again.]`,
    );
    expect(() => readShardHeader(new Uint8Array(3), 3, "a.bin")).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: a.bin: an llm.c token shard begins with 20240520 or 20240801, this has 3 bytes.]`,
    );
  });
});
