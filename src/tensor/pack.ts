/**
 * From a file's rows to the kernels' layout: blocks of 8 rows, interleaved so that a SIMD lane belongs to a row
 * (kernels/linear). What the last block lacks in rows is zeros.
 *
 *   f32 and bf16: input by input, 8 numbers.
 *
 * q8 and q4 go by groups of 32 inputs:
 *
 *   q8, 272 bytes: 8 f16 scales; for each pair of inputs (2p, 2p+1): 8 rows × 2 signed bytes.
 *   q4, 160 bytes: 8 f16 scales, 8 f16 minima; for s = 0…3, for rows 0–3 then 4–7: 8 words of 16 bits, row by row, even
 *   and odd input; nibble i of a word belongs to pair 4s + i.
 *
 * Q8_0 becomes q8 and Q4_0 and Q4_1 become q4 without loss; everything else passes through f32.
 */
import { FormatError, invariant } from "../errors.ts";
import { decodeBlocks, encodeBlocks } from "./blocks.ts";
import { type Dtype, GROUP, packedBytes, ROW_BLOCK } from "./dtype.ts";
import { type Encoding, rowBytes } from "./encoding.ts";
import { f16ToF32, f32ToBf16, f32ToF16 } from "./float16.ts";

/** Rows of a weight: `count` rows of `cols` elements from row `start` on, of `rows` in all. */
export type Rows = {
  readonly rows: number;
  readonly cols: number;
  /** A multiple of 8. */
  readonly start: number;
  readonly count: number;
};

/** Packs rows as they lie in a file into `target`, the whole weight in the layout of `dtype`, zeros at first. */
export function packRows(dtype: Dtype, encoding: Encoding, bytes: Uint8Array, where: Rows, target: Uint8Array): void {
  const { rows, cols, start, count } = where;
  invariant(bytes.length === count * rowBytes(encoding, cols), "packRows: bytes do not hold the rows");
  invariant(target.length === packedBytes(dtype, rows, cols), "packRows: target has another size");
  invariant(start % ROW_BLOCK === 0, "packRows: start must be a multiple of 8");
  if (dtype === "f32") {
    const values = new Float32Array(count * cols);
    decodeBlocks(encoding, bytes, values);
    interleave(values, where, new Float32Array(target.buffer, target.byteOffset, target.byteLength / 4));
    return;
  }
  if (dtype === "bf16") {
    const values = toBf16(encoding, bytes, count * cols);
    interleave(values, where, new Uint16Array(target.buffer, target.byteOffset, target.byteLength / 2));
    return;
  }
  const isLossless =
    cols % GROUP === 0 && (dtype === "q8" ? encoding === "Q8_0" : encoding === "Q4_0" || encoding === "Q4_1");
  const [blockEncoding, blocks] = isLossless
    ? ([encoding, bytes] as const)
    : ([dtype === "q8" ? "Q8_0" : "Q4_1", requantize(dtype, encoding, bytes, count, cols)] as const);
  const groups = Math.ceil(cols / GROUP);
  if (dtype === "q8") interleaveQ8(blocks, start, count, groups, target);
  else interleaveQ4(blockEncoding, blocks, start, count, groups, target);
}

function toBf16(encoding: Encoding, bytes: Uint8Array, count: number): Uint16Array {
  const out = new Uint16Array(count);
  if (encoding === "BF16") {
    new Uint8Array(out.buffer).set(bytes);
    return out;
  }
  const values = new Float32Array(count);
  decodeBlocks(encoding, bytes, values);
  for (let i = 0; i < count; i++) out[i] = f32ToBf16(values[i]!);
  return out;
}

/** Rows to blocks: element (row, c) is number (⌊row / 8⌋ · cols + c) · 8 + row mod 8. */
function interleave<A extends Float32Array | Uint16Array>(values: A, { cols, start, count }: Rows, out: A): void {
  for (let r = 0; r < count; r++) {
    const row = start + r;
    let to = Math.floor(row / ROW_BLOCK) * cols * ROW_BLOCK + (row % ROW_BLOCK);
    for (let i = r * cols; i < (r + 1) * cols; i++, to += ROW_BLOCK) out[to] = values[i]!;
  }
}

/** Through f32, rows padded with zeros to whole groups. */
function requantize(
  dtype: "q8" | "q4",
  encoding: Encoding,
  bytes: Uint8Array,
  count: number,
  cols: number,
): Uint8Array {
  const padded = Math.ceil(cols / GROUP) * GROUP;
  const values = new Float32Array(count * cols);
  decodeBlocks(encoding, bytes, values);
  let wide = values;
  if (padded !== cols) {
    wide = new Float32Array(count * padded);
    for (let r = 0; r < count; r++) wide.set(values.subarray(r * cols, (r + 1) * cols), r * padded);
  }
  return encodeBlocks(dtype === "q8" ? "Q8_0" : "Q4_1", wide, padded);
}

function interleaveQ8(blocks: Uint8Array, start: number, count: number, groups: number, target: Uint8Array): void {
  for (let r = 0; r < count; r++) {
    const row = start + r;
    const lane = row % ROW_BLOCK;
    const base = Math.floor(row / ROW_BLOCK) * groups * 272;
    for (let g = 0; g < groups; g++) {
      const from = (r * groups + g) * 34;
      const to = base + g * 272;
      checkFinite(blocks, from);
      target[to + lane * 2] = blocks[from]!;
      target[to + lane * 2 + 1] = blocks[from + 1]!;
      for (let i = 0; i < GROUP; i++) {
        target[to + 16 + (i >> 1) * 16 + lane * 2 + (i & 1)] = blocks[from + 2 + i]!;
      }
    }
  }
}

function interleaveQ4(
  encoding: Encoding,
  blocks: Uint8Array,
  start: number,
  count: number,
  groups: number,
  target: Uint8Array,
): void {
  const hasMinimum = encoding === "Q4_1";
  const blockBytes = hasMinimum ? 20 : 18;
  for (let r = 0; r < count; r++) {
    const row = start + r;
    const lane = row % ROW_BLOCK;
    const base = Math.floor(row / ROW_BLOCK) * groups * 160;
    for (let g = 0; g < groups; g++) {
      const from = (r * groups + g) * blockBytes;
      const to = base + g * 160;
      checkFinite(blocks, from);
      const scale = blocks[from]! | (blocks[from + 1]! << 8);
      // Q4_0 is (q - 8)·d: a minimum of -8·d, exact in f16.
      const minimum = hasMinimum ? blocks[from + 2]! | (blocks[from + 3]! << 8) : f32ToF16(-8 * f16ToF32(scale));
      target[to + lane * 2] = scale & 255;
      target[to + lane * 2 + 1] = scale >> 8;
      target[to + 16 + lane * 2] = minimum & 255;
      target[to + 17 + lane * 2] = minimum >> 8;
      checkFinite(target, to + 16 + lane * 2);
      const quants = from + blockBytes - 16; // element i is the low nibble of byte i, or the high one of byte i - 16
      const lanes = to + 32 + (lane >> 2) * 16 + (lane & 3) * 4;
      for (let s = 0; s < 4; s++) {
        for (let parity = 0; parity < 2; parity++) {
          let word = 0;
          for (let nibble = 0; nibble < 4; nibble++) {
            const i = (4 * s + nibble) * 2 + parity;
            const byte = blocks[quants + (i & 15)]!;
            word |= (i < 16 ? byte & 15 : byte >> 4) << (4 * nibble);
          }
          target[lanes + s * 32 + parity * 2] = word & 255;
          target[lanes + s * 32 + parity * 2 + 1] = word >> 8;
        }
      }
    }
  }
}

/** The kernels widen f16 by moving bits, which infinities and NaN do not survive. */
function checkFinite(bytes: Uint8Array, offset: number): void {
  if ((bytes[offset + 1]! & 0x7c) === 0x7c) {
    throw new FormatError("a quantized group has an infinite or NaN scale. The file is damaged; download it again.");
  }
}
