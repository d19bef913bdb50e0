/** The vocabulary of GGUF files (ggml-org/ggml, docs/gguf.md): metadata types, tensor types and our names for them. */
import type { Encoding } from "../../tensor/encoding.ts";

/** A metadata type's number in the file is its index here. */
export const ggufTypes = [
  "u8",
  "i8",
  "u16",
  "i16",
  "u32",
  "i32",
  "f32",
  "bool",
  "string",
  "array",
  "u64",
  "i64",
  "f64",
] as const;
/** The type of a metadata value. */
export type GgufType = (typeof ggufTypes)[number];
/** A type of which an array is a typed array here. */
export type GgufNumberType = Exclude<GgufType, "bool" | "string" | "array">;

/** What arrays of numbers are read into. */
export type NumberArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

/** A metadata value with its type, so that a file can be written again as it was. */
export type GgufValue =
  /** 64-bit integers beyond 2⁵³ are bigints. */
  | { readonly type: GgufNumberType; readonly value: number | bigint }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "string"; readonly value: string }
  | GgufArray;
/** An array with the type of its elements. */
export type GgufArray =
  | { readonly type: "array"; readonly of: GgufNumberType; readonly value: NumberArray }
  | { readonly type: "array"; readonly of: "bool"; readonly value: readonly boolean[] }
  | { readonly type: "array"; readonly of: "string"; readonly value: readonly string[] }
  | { readonly type: "array"; readonly of: "array"; readonly value: readonly GgufArray[] };
/** Metadata by key, in the file's order. */
export type GgufMetadata = ReadonlyMap<string, GgufValue>;

/** Bytes of a number of each type, in the file. */
export const numberBytes: Readonly<Record<GgufNumberType, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  u64: 8,
  i64: 8,
  f64: 8,
};

/** The typed array for each type of number; the file is little-endian, as every machine is that runs this. */
export const numberArrays: Readonly<Record<GgufNumberType, new (buffer: ArrayBuffer) => NumberArray>> = {
  u8: Uint8Array,
  i8: Int8Array,
  u16: Uint16Array,
  i16: Int16Array,
  u32: Uint32Array,
  i32: Int32Array,
  f32: Float32Array,
  u64: BigUint64Array,
  i64: BigInt64Array,
  f64: Float64Array,
};

/** ggml's tensor types that we read, by their number. */
export const tensorTypes: ReadonlyMap<number, Encoding> = new Map([
  [0, "F32"],
  [1, "F16"],
  [2, "Q4_0"],
  [3, "Q4_1"],
  [6, "Q5_0"],
  [7, "Q5_1"],
  [8, "Q8_0"],
  [12, "Q4_K"],
  [13, "Q5_K"],
  [14, "Q6_K"],
  [30, "BF16"],
]);

/** `general.file_type`: what most matrices are in (llama.h's llama_ftype; the K kinds' S variants). */
export const fileTypes: Readonly<Record<Encoding, number>> = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q4_1: 3,
  Q8_0: 7,
  Q5_0: 8,
  Q5_1: 9,
  Q4_K: 14,
  Q5_K: 16,
  Q6_K: 18,
  BF16: 32,
};

/** The file's first word. */
export const MAGIC = 0x46554747; // "GGUF", little-endian
/** Tensors begin at multiples of so many bytes, unless `general.alignment` says otherwise. */
export const DEFAULT_ALIGNMENT = 32;

/** Values without their types: numbers, bigints, booleans, strings, and arrays of these. */
export function plainMetadata(metadata: GgufMetadata): Map<string, unknown> {
  return new Map(Array.from(metadata, ([key, value]) => [key, plain(value)]));
}

function plain(value: GgufValue): unknown {
  return value.type === "array" && value.of === "array" ? value.value.map(plain) : value.value;
}
