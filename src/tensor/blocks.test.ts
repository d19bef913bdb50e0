import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { decodeBlocks, encodeBlocks, writableEncodings } from "./blocks.ts";
import { blockLayout, type Encoding } from "./encoding.ts";
import { createRandom } from "../random.ts";

type Fixture = {
  readonly decode: Readonly<Record<Encoding, { readonly bytes: string; readonly values: string }>>;
  readonly encode: Readonly<Record<"values" | "F16" | "BF16" | "Q8_0" | "Q4_0" | "Q4_1", string>>;
};
// Made by test/fixtures/make_blocks.py with ggml's own package.
const fixture = JSON.parse(
  readFileSync(new URL("../../test/fixtures/blocks.json", import.meta.url), "utf8"),
) as Fixture;

function fromBase64(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text, "base64"));
}

function floats(text: string): Float32Array {
  return new Float32Array(fromBase64(text).buffer);
}

function decoded(encoding: Encoding, bytes: Uint8Array): Float32Array {
  const { elements, bytes: blockBytes } = blockLayout[encoding];
  const out = new Float32Array((bytes.length / blockBytes) * elements);
  decodeBlocks(encoding, bytes, out);
  return out;
}

function squaredError(a: Float32Array, b: Float32Array, from: number, to: number): number {
  let sum = 0;
  for (let i = from; i < to; i++) sum += (a[i]! - b[i]!) ** 2;
  return sum;
}

describe("decodeBlocks", () => {
  test.each(Object.keys(blockLayout) as Encoding[])("decodes %s bit for bit as ggml does", (encoding) => {
    const { bytes, values } = fixture.decode[encoding];
    expect(decoded(encoding, fromBase64(bytes))).toEqual(floats(values));
  });

  test("reads bytes that are not aligned to their size", () => {
    const bytes = new Uint8Array(9);
    bytes.set(new Uint8Array(Float32Array.of(1.5, -2).buffer), 1);
    expect(decoded("F32", bytes.subarray(1))).toEqual(Float32Array.of(1.5, -2));
  });

  test("takes no bytes for no elements", () => {
    expect(decoded("Q6_K", new Uint8Array(0))).toEqual(new Float32Array(0));
  });

  test("refuses bytes that don't match the elements asked for", () => {
    expect(() => decodeBlocks("Q4_0", new Uint8Array(19), new Float32Array(32))).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: decodeBlocks: 32 elements of Q4_0 take 18 bytes, got 19.]`,
    );
    expect(() => decodeBlocks("Q8_0", new Uint8Array(34), new Float32Array(64))).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: decodeBlocks: 64 elements of Q8_0 take 68 bytes, got 34.]`,
    );
  });
});

describe("encodeBlocks", () => {
  test.each(["F16", "BF16", "Q8_0"] as const)("encodes %s bit for bit as ggml does", (encoding) => {
    expect(encodeBlocks(encoding, floats(fixture.encode.values), 32)).toEqual(fromBase64(fixture.encode[encoding]));
  });

  test.each(["Q4_0", "Q4_1"] as const)("never does worse than ggml's rule for %s, in any block", (encoding) => {
    const values = floats(fixture.encode.values);
    const ours = decoded(encoding, encodeBlocks(encoding, values, 32));
    const plain = decoded(encoding, fromBase64(fixture.encode[encoding]));
    for (let from = 0; from < values.length; from += 32) {
      const error = squaredError(values, ours, from, from + 32);
      expect(error, `block ${from / 32}`).toBeLessThanOrEqual(squaredError(values, plain, from, from + 32));
    }
  });

  // ggml's rule leaves 0.0074 (Q4_0) and 0.0061 (Q4_1) of the energy of normal weights.
  test.each([
    ["Q4_0", 0.0066],
    ["Q4_1", 0.0049],
  ] as const)("lowers the error of normal weights in %s", (encoding, limit) => {
    const random = createRandom(7);
    const values = Float32Array.from({ length: 32 * 500 }, () => random.normal());
    const ours = decoded(encoding, encodeBlocks(encoding, values, 320));
    let energy = 0;
    for (const value of values) energy += value * value;
    expect(squaredError(values, ours, 0, values.length) / energy).toBeLessThan(limit);
  });

  test("keeps zeros zero and constants constant", () => {
    for (const encoding of writableEncodings) {
      const zeros = decoded(encoding, encodeBlocks(encoding, new Float32Array(64), 64));
      expect(zeros.every((value) => value === 0)).toBe(true); // d = −0 where ggml has it
      const constant = new Float32Array(32).fill(-0.5);
      const back = decoded(encoding, encodeBlocks(encoding, constant, 32));
      for (const value of back) expect(Math.abs(value + 0.5), encoding).toBeLessThan(0.5 / 1000);
    }
  });

  test.each(writableEncodings)("writes what it decoded from %s again almost unchanged", (encoding) => {
    const random = createRandom(11);
    const values = Float32Array.from({ length: 96 }, () => random.normal());
    const once = decoded(encoding, encodeBlocks(encoding, values, 96));
    const twice = decoded(encoding, encodeBlocks(encoding, once, 96));
    for (let i = 0; i < once.length; i++) expect(Math.abs(twice[i]! - once[i]!)).toBeLessThan(0.002);
  });

  test("refuses rows that don't hold whole blocks, and encodings it only reads", () => {
    expect(() => encodeBlocks("Q8_0", new Float32Array(96), 48)).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: encodeBlocks: a row of Q8_0 must hold whole blocks of 32, got 48 columns. Use Q8_0, F16 or F32 where they fit.]`,
    );
    expect(() => encodeBlocks("F32", new Float32Array(5), 2)).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: encodeBlocks: expected whole rows of 2, got 5 values.]`,
    );
    expect(() => encodeBlocks("Q6_K", new Float32Array(256), 256)).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: encodeBlocks: writes F32, F16, BF16, Q8_0, Q4_0, Q4_1, got Q6_K. Choose one of these.]`,
    );
  });

  test("refuses values that the encoding can't hold", () => {
    const values = new Float32Array(64);
    values[40] = NaN;
    expect(() => encodeBlocks("Q8_0", values, 64)).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: encodeBlocks: Q8_0 can't hold NaN (value 40). Use F32, and check how the weights were made.]`,
    );
    expect(() => encodeBlocks("Q4_0", values, 64)).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: encodeBlocks: Q4_0 can't hold NaN (value 40). Use F32, and check how the weights were made.]`,
    );
    expect(() => encodeBlocks("Q4_1", values, 64)).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: encodeBlocks: Q4_1 can't hold NaN (value 40). Use F32, and check how the weights were made.]`,
    );
    expect(() => encodeBlocks("F16", Float32Array.of(1, 70000), 2)).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: encodeBlocks: F16 can't hold 70000 (value 1). Use F32, and check how the weights were made.]`,
    );
  });
});
