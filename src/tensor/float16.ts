/**
 * The two 16-bit floats of model files: IEEE 754 binary16 (1 sign, 5 exponent, 10 fraction bits) and bfloat16, the upper
 * half of an f32. Numbers are rounded to the nearest, ties to even, as hardware does.
 */
const float = new Float32Array(1);
const word = new Uint32Array(float.buffer);

/** The number that 16 bits of binary16 mean. */
export function f16ToF32(bits: number): number {
  const magnitude = bits & 0x7fff;
  if (magnitude < 0x0400) return (bits & 0x8000 ? -magnitude : magnitude) * 2 ** -24; // zero and subnormals
  // The exponent's bias grows from 15 to 127; infinity and NaN keep all exponent bits set.
  word[0] =
    ((bits & 0x8000) << 16) | (magnitude >= 0x7c00 ? 0x7f800000 | (magnitude << 13) : (magnitude << 13) + 0x38000000);
  return float[0]!;
}

/** The nearest binary16; numbers from 65520 on become infinity. */
export function f32ToF16(value: number): number {
  float[0] = value;
  const sign = (word[0]! >>> 16) & 0x8000;
  const magnitude = word[0]! & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00; // 65520, halfway between the largest binary16 and 2¹⁶
  if (magnitude >= 0x38800000) return sign | ((magnitude - 0x38000000 + 0x0fff + ((magnitude >>> 13) & 1)) >>> 13);
  // In [0.5, 1) an f32 has steps of 2⁻²⁴, those of a subnormal binary16: the addition rounds for us.
  float[0] = Math.abs(value) + 0.5;
  return sign | (word[0]! - 0x3f000000);
}

/** The number that 16 bits of bfloat16 mean. */
export function bf16ToF32(bits: number): number {
  word[0] = bits << 16;
  return float[0]!;
}

/** The nearest bfloat16. */
export function f32ToBf16(value: number): number {
  float[0] = value;
  const bits = word[0]!;
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x0040; // a NaN whose set bits are all lost would be infinity
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}
