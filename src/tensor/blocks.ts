/**
 * ggml's block encodings (ggml-org/ggml, src/ggml-quants.c). A block holds 32 or 256 neighbours of a row as small
 * integers q with what they share: `d·q` (the _0 kinds), `d·q + m` (_1), or two levels of scales (_K: d·sc·q − dmin·mn).
 */
import { ShapeError } from "../errors.ts";
import { blockLayout, type Encoding } from "./encoding.ts";
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from "./float16.ts";
import { createQ4Search, fitQ4_0, fitQ4_1, MINIMUM, nearestLevel, SCALE } from "./q4-grid.ts";

/** Encodings that `encodeBlocks` writes. */
export const writableEncodings = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1"] as const;
export type WritableEncoding = (typeof writableEncodings)[number];

/**
 * Decodes whole blocks.
 * @throws {ShapeError} if `bytes` are not whole blocks or hold another number of elements than `out`.
 */
export function decodeBlocks(encoding: Encoding, bytes: Uint8Array, out: Float32Array): void {
  const { elements, bytes: blockBytes } = blockLayout[encoding];
  if (bytes.length % blockBytes !== 0 || (bytes.length / blockBytes) * elements !== out.length) {
    throw new ShapeError(
      `decodeBlocks: ${out.length} elements of ${encoding} take ${(out.length / elements) * blockBytes} bytes, got ${bytes.length}.`,
    );
  }
  decoders[encoding](bytes, out);
}

/**
 * Encodes rows of `cols` values. F16, BF16 and Q8_0 round as ggml does; Q4_0 and Q4_1 search the scale (and minimum) that
 * lower a block's squared error, starting from ggml's.
 * @throws {ShapeError} if a row does not hold whole blocks, or `values` whole rows.
 * @throws {RangeError} for an encoding that is only read, and for values beyond what it can hold.
 */
export function encodeBlocks(encoding: Encoding, values: Float32Array, cols: number): Uint8Array {
  const { elements, bytes: blockBytes } = blockLayout[encoding];
  if (!isWritable(encoding)) {
    throw new RangeError(`encodeBlocks: writes ${writableEncodings.join(", ")}, got ${encoding}. Choose one of these.`);
  }
  if (!Number.isInteger(cols) || cols < 1 || cols % elements !== 0) {
    throw new ShapeError(
      `encodeBlocks: a row of ${encoding} must hold whole blocks of ${elements}, got ${cols} columns. Use Q8_0, F16 or F32 where they fit.`,
    );
  }
  if (values.length % cols !== 0) {
    throw new ShapeError(`encodeBlocks: expected whole rows of ${cols}, got ${values.length} values.`);
  }
  const bytes = new Uint8Array((values.length / elements) * blockBytes);
  encoders[encoding](values, bytes);
  return bytes;
}

export function isWritable(encoding: Encoding): encoding is WritableEncoding {
  return (writableEncodings as readonly string[]).includes(encoding);
}

type Decoder = (bytes: Uint8Array, out: Float32Array) => void;

const decoders: Readonly<Record<Encoding, Decoder>> = {
  F32(bytes, out) {
    // Bytes in a file need not be aligned; little-endian like every platform that JavaScript runs on.
    new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(bytes);
  },
  F16(bytes, out) {
    for (let i = 0, at = 0; i < out.length; i++, at += 2) out[i] = half(bytes, at);
  },
  BF16(bytes, out) {
    for (let i = 0, at = 0; i < out.length; i++, at += 2) out[i] = bf16ToF32(bytes[at]! | (bytes[at + 1]! << 8));
  },
  Q8_0(bytes, out) {
    for (let at = 0, to = 0; at < bytes.length; at += 34, to += 32) {
      const d = half(bytes, at);
      for (let i = 0; i < 32; i++) out[to + i] = d * ((bytes[at + 2 + i]! << 24) >> 24);
    }
  },
  Q4_0(bytes, out) {
    for (let at = 0, to = 0; at < bytes.length; at += 18, to += 32) {
      const d = half(bytes, at);
      for (let i = 0; i < 16; i++) {
        const pair = bytes[at + 2 + i]!;
        out[to + i] = d * ((pair & 15) - 8);
        out[to + i + 16] = d * ((pair >> 4) - 8);
      }
    }
  },
  Q4_1(bytes, out) {
    for (let at = 0, to = 0; at < bytes.length; at += 20, to += 32) {
      const d = half(bytes, at);
      const m = half(bytes, at + 2);
      for (let i = 0; i < 16; i++) {
        const pair = bytes[at + 4 + i]!;
        out[to + i] = d * (pair & 15) + m;
        out[to + i + 16] = d * (pair >> 4) + m;
      }
    }
  },
  Q5_0(bytes, out) {
    for (let at = 0, to = 0; at < bytes.length; at += 22, to += 32) {
      const d = half(bytes, at);
      const high = word32(bytes, at + 2);
      for (let i = 0; i < 16; i++) {
        const pair = bytes[at + 6 + i]!;
        out[to + i] = d * (((pair & 15) | (((high >>> i) & 1) << 4)) - 16);
        out[to + i + 16] = d * (((pair >> 4) | (((high >>> (i + 16)) & 1) << 4)) - 16);
      }
    }
  },
  Q5_1(bytes, out) {
    for (let at = 0, to = 0; at < bytes.length; at += 24, to += 32) {
      const d = half(bytes, at);
      const m = half(bytes, at + 2);
      const high = word32(bytes, at + 4);
      for (let i = 0; i < 16; i++) {
        const pair = bytes[at + 8 + i]!;
        out[to + i] = d * ((pair & 15) | (((high >>> i) & 1) << 4)) + m;
        out[to + i + 16] = d * ((pair >> 4) | (((high >>> (i + 16)) & 1) << 4)) + m;
      }
    }
  },
  // 8 groups of 32; byte i of 32 holds element i of an even group (low half) and of the odd one after it (high half).
  Q4_K(bytes, out) {
    for (let at = 0, to = 0; at < bytes.length; at += 144, to += 256) {
      const d = half(bytes, at);
      const dmin = half(bytes, at + 2);
      for (let group = 0; group < 8; group++) {
        const scale = d * groupScale(bytes, at + 4, group);
        const minimum = dmin * groupMinimum(bytes, at + 4, group);
        const from = at + 16 + (group >> 1) * 32;
        const shift = (group & 1) * 4;
        for (let i = 0; i < 32; i++) out[to + group * 32 + i] = scale * ((bytes[from + i]! >> shift) & 15) - minimum;
      }
    }
  },
  // Q4_K with a fifth bit: bit `group` of byte i in the 32 bytes after the scales.
  Q5_K(bytes, out) {
    for (let at = 0, to = 0; at < bytes.length; at += 176, to += 256) {
      const d = half(bytes, at);
      const dmin = half(bytes, at + 2);
      for (let group = 0; group < 8; group++) {
        const scale = d * groupScale(bytes, at + 4, group);
        const minimum = dmin * groupMinimum(bytes, at + 4, group);
        const from = at + 48 + (group >> 1) * 32;
        const shift = (group & 1) * 4;
        for (let i = 0; i < 32; i++) {
          const high = ((bytes[at + 16 + i]! >> group) & 1) << 4;
          out[to + group * 32 + i] = scale * (((bytes[from + i]! >> shift) & 15) | high) - minimum;
        }
      }
    }
  },
  // Two halves of 128, each of four quarters of 32: 4 low bits from 64 bytes, 2 high bits from 32; a scale for each 16.
  Q6_K(bytes, out) {
    for (let at = 0, to = 0; at < bytes.length; at += 210, to += 256) {
      const d = half(bytes, at + 208);
      for (let group = 0; group < 8; group++) {
        const side = group >> 2;
        const quarter = group & 3;
        const low = at + side * 64 + (quarter & 1) * 32;
        const high = at + 128 + side * 32;
        for (let i = 0; i < 32; i++) {
          const scale = d * ((bytes[at + 192 + group * 2 + (i >> 4)]! << 24) >> 24);
          const q = ((bytes[low + i]! >> ((quarter >> 1) * 4)) & 15) | (((bytes[high + i]! >> (quarter * 2)) & 3) << 4);
          out[to + group * 32 + i] = scale * (q - 32);
        }
      }
    }
  },
};

function half(bytes: Uint8Array, at: number): number {
  return f16ToF32(bytes[at]! | (bytes[at + 1]! << 8));
}

function word32(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}

// Eight scales and eight minima of 6 bits in 12 bytes: the first four of each whole, the others in halves.
function groupScale(bytes: Uint8Array, at: number, group: number): number {
  if (group < 4) return bytes[at + group]! & 63;
  return (bytes[at + group + 4]! & 15) | ((bytes[at + group - 4]! >> 6) << 4);
}

function groupMinimum(bytes: Uint8Array, at: number, group: number): number {
  if (group < 4) return bytes[at + group + 4]! & 63;
  return (bytes[at + group + 4]! >> 4) | ((bytes[at + group]! >> 6) << 4);
}

type Encoder = (values: Float32Array, bytes: Uint8Array) => void;

const encoders: Readonly<Record<WritableEncoding, Encoder>> = {
  F32(values, bytes) {
    bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  },
  F16(values, bytes) {
    for (let i = 0; i < values.length; i++) {
      const bits = f32ToF16(values[i]!);
      if ((bits & 0x7fff) === 0x7c00 && Number.isFinite(values[i]!)) refuse("F16", values, i, 1);
      setHalf(bytes, i * 2, bits);
    }
  },
  BF16(values, bytes) {
    for (let i = 0; i < values.length; i++) setHalf(bytes, i * 2, f32ToBf16(values[i]!));
  },
  Q8_0(values, bytes) {
    for (let from = 0, at = 0; from < values.length; from += 32, at += 34) {
      let largest = 0;
      for (let i = 0; i < 32; i++) largest = Math.max(largest, Math.abs(values[from + i]!));
      const d = Math.fround(largest / 127);
      setHalf(bytes, at, finiteHalf("Q8_0", d, values, from));
      const inverse = d === 0 ? 0 : Math.fround(1 / d);
      for (let i = 0; i < 32; i++) {
        const x = Math.fround(values[from + i]! * inverse);
        bytes[at + 2 + i] = Math.sign(x) * Math.round(Math.abs(x)); // C's roundf: halves away from zero
      }
    }
  },
  Q4_0(values, bytes) {
    encodeQ4("Q4_0", fitQ4_0, values, bytes);
  },
  Q4_1(values, bytes) {
    encodeQ4("Q4_1", fitQ4_1, values, bytes);
  },
};

function encodeQ4(encoding: "Q4_0" | "Q4_1", fit: typeof fitQ4_1, values: Float32Array, bytes: Uint8Array): void {
  const x = new Float64Array(32);
  const search = createQ4Search();
  const start = encoding === "Q4_0" ? 2 : 4; // of the levels in a block
  for (let from = 0, at = 0; from < values.length; from += 32, at += start + 16) {
    for (let i = 0; i < 32; i++) x[i] = values[from + i]!;
    fit(x, search);
    const d = search[SCALE]!;
    const m = search[MINIMUM]!;
    setHalf(bytes, at, finiteHalf(encoding, d, values, from));
    if (encoding === "Q4_1") setHalf(bytes, at + 2, finiteHalf(encoding, m, values, from));
    const inverse = d === 0 ? 0 : 1 / d;
    for (let i = 0; i < 16; i++) {
      const high = nearestLevel((x[i + 16]! - m) * inverse);
      bytes[at + start + i] = nearestLevel((x[i]! - m) * inverse) | (high << 4);
    }
  }
}

function setHalf(bytes: Uint8Array, at: number, bits: number): void {
  bytes[at] = bits & 255;
  bytes[at + 1] = bits >> 8;
}

/** The binary16 of a block's scale or minimum, which must be a finite number. */
function finiteHalf(encoding: WritableEncoding, value: number, values: Float32Array, from: number): number {
  const bits = f32ToF16(value);
  if ((bits & 0x7c00) === 0x7c00) refuse(encoding, values, from, 32);
  return bits;
}

function refuse(encoding: WritableEncoding, values: Float32Array, from: number, count: number): never {
  let worst = from;
  for (let i = from; i < from + count; i++) {
    if (Number.isNaN(values[i]!)) worst = i;
    else if (Math.abs(values[i]!) > Math.abs(values[worst]!)) worst = i;
  }
  throw new RangeError(
    `encodeBlocks: ${encoding} can't hold ${values[worst]!} (value ${worst}). Use F32, and check how the weights were made.`,
  );
}
