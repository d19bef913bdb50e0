import { describe, expect, test } from "vitest";
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from "./float16.ts";
import { createRandom } from "../random.ts";

/** binary16 by its definition. */
function meaning(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15));
}

describe("binary16", () => {
  test("reads all 65,536 patterns by the definition and writes each back", () => {
    for (let bits = 0; bits < 65536; bits++) {
      const value = f16ToF32(bits);
      if (!Object.is(value, meaning(bits))) expect(value, `bits ${bits}`).toBe(meaning(bits));
      if (!Number.isNaN(value) && f32ToF16(value) !== bits) expect(f32ToF16(value), `bits ${bits}`).toBe(bits);
    }
  });

  test("rounds to the nearest, ties to even, between all neighbours", () => {
    for (let bits = 0; bits < 0x7bff; bits++) {
      const middle = (meaning(bits) + meaning(bits + 1)) / 2;
      const even = bits + (bits & 1);
      const below = middle * (1 - 2 ** -23);
      const above = middle * (1 + 2 ** -23);
      if (f32ToF16(middle) !== even) expect(f32ToF16(middle), `middle above ${bits}`).toBe(even);
      if (f32ToF16(below) !== bits) expect(f32ToF16(below), `below the middle above ${bits}`).toBe(bits);
      if (f32ToF16(-above) !== (0x8000 | (bits + 1))) expect(f32ToF16(-above)).toBe(0x8000 | (bits + 1));
    }
  });

  test("overflows to infinity at 65520 and keeps NaN", () => {
    expect(f32ToF16(65519.99)).toBe(0x7bff);
    expect(f32ToF16(65520)).toBe(0x7c00);
    expect(f32ToF16(-1e30)).toBe(0xfc00);
    expect(f32ToF16(-Infinity)).toBe(0xfc00);
    expect(f16ToF32(f32ToF16(NaN))).toBeNaN();
    expect(f32ToF16(1e-40)).toBe(0);
    expect(f32ToF16(-0)).toBe(0x8000);
  });
});

describe("bfloat16", () => {
  test("writes back all patterns that are numbers", () => {
    for (let bits = 0; bits < 65536; bits++) {
      const value = bf16ToF32(bits);
      if (Number.isNaN(value)) expect(bf16ToF32(f32ToBf16(value))).toBeNaN();
      else if (f32ToBf16(value) !== bits) expect(f32ToBf16(value)).toBe(bits);
    }
  });

  test("rounds to the nearest, ties to even", () => {
    expect(f32ToBf16(1 + 2 ** -8)).toBe(0x3f80); // halfway, down to even
    expect(f32ToBf16(1 + 3 * 2 ** -8)).toBe(0x3f82); // halfway, up to even
    expect(f32ToBf16(1 + 2 ** -8 + 2 ** -20)).toBe(0x3f81);
    expect(f32ToBf16(3.4e38)).toBe(0x7f80); // above the largest bfloat16 by more than half a step
    const random = createRandom(1);
    for (let i = 0; i < 10_000; i++) {
      const value = Math.fround(random.normal());
      const error = Math.abs(bf16ToF32(f32ToBf16(value)) - value);
      expect(error).toBeLessThanOrEqual(Math.abs(value) * 2 ** -8);
    }
  });
});
