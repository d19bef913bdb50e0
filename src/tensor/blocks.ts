/**
 * ggml's block encodings (ggml-org/ggml, src/ggml-quants.c). A block holds 32 or 256 neighbours of a row as small
 * integers q with what they share: `d·q` (the _0 kinds), `d·q + m` (_1), or two levels of scales (_K: d·sc·q − dmin·mn).
 */
import { ShapeError } from "../errors.ts";
import { blockLayout, type Encoding } from "./encoding.ts";
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from "./float16.ts";

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
    const block: Q4Block = { d: 0, m: 0, q: new Uint8Array(32), error: 0 };
    const trial: Q4Block = { d: 0, m: 0, q: new Uint8Array(32), error: 0 };
    for (let from = 0, at = 0; from < values.length; from += 32, at += 18) {
      const x = values.subarray(from, from + 32);
      plainQ4(x, block);
      finiteHalf("Q4_0", block.d, values, from);
      searchQ4(x, block, trial);
      setHalf(bytes, at, f32ToF16(block.d));
      for (let i = 0; i < 16; i++) bytes[at + 2 + i] = block.q[i]! | (block.q[i + 16]! << 4);
    }
  },
  Q4_1(values, bytes) {
    const block: Q4Block = { d: 0, m: 0, q: new Uint8Array(32), error: 0 };
    const trial: Q4Block = { d: 0, m: 0, q: new Uint8Array(32), error: 0 };
    for (let from = 0, at = 0; from < values.length; from += 32, at += 20) {
      const x = values.subarray(from, from + 32);
      plainQ41(x, block);
      finiteHalf("Q4_1", block.d, values, from);
      finiteHalf("Q4_1", block.m, values, from);
      searchQ41(x, block, trial);
      setHalf(bytes, at, f32ToF16(block.d));
      setHalf(bytes, at + 2, f32ToF16(block.m));
      for (let i = 0; i < 16; i++) bytes[at + 4 + i] = block.q[i]! | (block.q[i + 16]! << 4);
    }
  },
};

/** One block's choice: x ≈ d·q + m, with d and m rounded to binary16 as stored, and its squared error. Q4_0: m = −8·d. */
type Q4Block = { d: number; m: number; q: Uint8Array; error: number };

/** Scales tried on either side of Q4_0's plain one: for normal weights the error falls from 0.0074 of the energy to 0.0065. */
const TRIALS = 4;

/**
 * Q4_1: each end of the range moves by this part of it, out or in, by itself, and least squares refits twice. For normal
 * weights 0.0049 of the energy stays as error, where ggml's rule leaves 0.0061; moving the ends together, 4 steps each way,
 * left 0.0053, and 13 × 13 ends in place of 3 × 3 give 0.0047 in 24 times the time.
 */
const END_STEP = 0.06;
const REFITS = 2;

/** ggml's rule for Q4_0: the value largest in magnitude becomes −8·d. */
function plainQ4(x: Float32Array, block: Q4Block): void {
  const extreme = extremeOf(x);
  const d = Math.fround(extreme / -8);
  const inverse = d === 0 ? 0 : Math.fround(1 / d);
  for (let i = 0; i < 32; i++) block.q[i] = level(Math.fround(Math.fround(x[i]! * inverse) + 8.5));
  const stored = roundToHalf(d);
  settle(x, block, stored, stored * -8);
}

/** Keeps in `block` the best of some scales around the plain one, each refitted to its levels by least squares. */
function searchQ4(x: Float32Array, block: Q4Block, trial: Q4Block): void {
  const extreme = extremeOf(x);
  if (extreme === 0) return;
  for (let step = -TRIALS; step <= TRIALS; step++) {
    nearestQ4(x, trial, extreme / (-8 + (0.8 * step) / TRIALS));
    keepBetter(block, trial);
    let numerator = 0;
    let denominator = 0;
    for (let i = 0; i < 32; i++) {
      const q = trial.q[i]! - 8;
      numerator += x[i]! * q;
      denominator += q * q;
    }
    if (denominator === 0) continue;
    nearestQ4(x, trial, numerator / denominator);
    keepBetter(block, trial);
  }
}

function nearestQ4(x: Float32Array, trial: Q4Block, scale: number): void {
  const d = roundToHalf(scale);
  const inverse = d === 0 ? 0 : 1 / d;
  for (let i = 0; i < 32; i++) trial.q[i] = level(x[i]! * inverse + 8.5);
  settle(x, trial, d, d * -8);
}

/** ggml's rule for Q4_1: 0 is the smallest value, 15 the largest. */
function plainQ41(x: Float32Array, block: Q4Block): void {
  const [smallest, largest] = rangeOf(x);
  const d = Math.fround(Math.fround(largest - smallest) / 15);
  const inverse = d === 0 ? 0 : Math.fround(1 / d);
  for (let i = 0; i < 32; i++) {
    block.q[i] = level(Math.fround(Math.fround(Math.fround(x[i]! - smallest) * inverse) + 0.5));
  }
  settle(x, block, roundToHalf(d), roundToHalf(smallest));
}

function searchQ41(x: Float32Array, block: Q4Block, trial: Q4Block): void {
  const [smallest, largest] = rangeOf(x);
  if (largest === smallest) return;
  const step = (largest - smallest) * END_STEP;
  for (let low = -1; low <= 1; low++) {
    for (let high = -1; high <= 1; high++) {
      const minimum = smallest + low * step;
      nearestQ41(x, trial, (largest - high * step - minimum) / 15, minimum);
      keepBetter(block, trial);
      for (let refit = 0; refit < REFITS && refitQ41(x, trial); refit++) keepBetter(block, trial);
    }
  }
}

/** Scale and minimum that suit the levels best, then the levels that suit them; false where one level serves all. */
function refitQ41(x: Float32Array, trial: Q4Block): boolean {
  let sumQ = 0;
  let sumQQ = 0;
  let sumX = 0;
  let sumXQ = 0;
  for (let i = 0; i < 32; i++) {
    const q = trial.q[i]!;
    sumQ += q;
    sumQQ += q * q;
    sumX += x[i]!;
    sumXQ += x[i]! * q;
  }
  const determinant = 32 * sumQQ - sumQ * sumQ;
  if (determinant === 0) return false;
  const slope = (32 * sumXQ - sumX * sumQ) / determinant;
  nearestQ41(x, trial, slope, (sumX - slope * sumQ) / 32);
  return true;
}

function nearestQ41(x: Float32Array, trial: Q4Block, scale: number, minimum: number): void {
  const d = roundToHalf(scale);
  const m = roundToHalf(minimum);
  const inverse = d === 0 ? 0 : 1 / d;
  for (let i = 0; i < 32; i++) trial.q[i] = level((x[i]! - m) * inverse + 0.5);
  settle(x, trial, d, m);
}

function settle(x: Float32Array, block: Q4Block, d: number, m: number): void {
  block.d = d;
  block.m = m;
  block.error = 0;
  for (let i = 0; i < 32; i++) block.error += (d * block.q[i]! + m - x[i]!) ** 2;
}

function roundToHalf(value: number): number {
  return f16ToF32(f32ToF16(value));
}

function keepBetter(best: Q4Block, trial: Q4Block): void {
  if (!(trial.error < best.error)) return;
  best.d = trial.d;
  best.m = trial.m;
  best.error = trial.error;
  best.q.set(trial.q);
}

function level(x: number): number {
  return x <= 0 ? 0 : x >= 15 ? 15 : x | 0;
}

/** The value largest in magnitude, with its sign; NaN if there is one. */
function extremeOf(x: Float32Array): number {
  let extreme = 0;
  for (const value of x) {
    if (Number.isNaN(value)) return NaN;
    if (Math.abs(value) > Math.abs(extreme)) extreme = value;
  }
  return extreme;
}

function rangeOf(x: Float32Array): readonly [number, number] {
  let smallest = Infinity;
  let largest = -Infinity;
  for (const value of x) {
    smallest = Math.min(smallest, value);
    largest = Math.max(largest, value);
  }
  return [smallest, largest];
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
