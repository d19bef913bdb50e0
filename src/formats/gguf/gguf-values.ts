/** Reads the values of GGUF metadata: numbers, booleans, strings, and arrays of them. Every length in the file is a claim. */
import type { Cursor } from "./gguf-cursor.ts";
import {
  ggufTypes,
  numberArrays,
  numberBytes,
  type GgufArray,
  type GgufNumberType,
  type GgufType,
  type GgufValue,
} from "./gguf-types.ts";

/** A string's length is a claim of up to 2⁶⁴ bytes. Long ones are chat templates, of some 10 kB. */
const MAX_STRING_BYTES = 16 * 1024 * 1024;
/** Vocabularies and merges are the long arrays: 256,000 tokens, 600,000 merges. */
const MAX_ARRAY_LENGTH = 4_194_304;
/** Arrays of arrays are allowed but unused; a long chain of them would overflow our stack. */
const MAX_ARRAY_DEPTH = 4;

/** Reads a string, its length before it. @throws {FormatError} if it is no UTF-8 or has more than `limit` bytes. */
export async function readString(cursor: Cursor, what: string, limit: number = MAX_STRING_BYTES): Promise<string> {
  const at = cursor.position;
  const short = cursor.need(8, what);
  if (short) await short;
  const length = cursor.view.getBigUint64(cursor.take(8), true);
  if (length > limit) throw cursor.error(at, `${what} claims ${length} bytes, at most ${limit} are read`);
  const rest = cursor.need(Number(length), what);
  if (rest) await rest;
  return decodeString(cursor, Number(length), what);
}

/** A string that lies whole in the window; else undefined, and the position stays. */
function takeString(cursor: Cursor, what: string): string | undefined {
  if (cursor.inWindow < 8) return undefined;
  const at = cursor.view.byteLength - cursor.inWindow;
  // Lengths whose upper half is set are left to readString, which refuses them.
  const length = cursor.view.getUint32(at, true);
  if (cursor.view.getUint32(at + 4, true) !== 0 || cursor.inWindow - 8 < length) return undefined;
  cursor.take(8);
  return decodeString(cursor, length, what);
}

function decodeString(cursor: Cursor, length: number, what: string): string {
  const at = cursor.position;
  const from = cursor.take(length);
  try {
    return utf8.decode(new Uint8Array(cursor.view.buffer, cursor.view.byteOffset + from, length));
  } catch (cause) {
    throw cursor.error(at, `${what} must be UTF-8`, undefined, cause);
  }
}

// Without ignoreBOM the token U+FEFF would read as an empty string.
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

async function readType(cursor: Cursor, what: string): Promise<GgufType> {
  const at = cursor.position;
  await cursor.need(4, what);
  const number = cursor.view.getUint32(cursor.take(4), true);
  const type = ggufTypes[number];
  if (type === undefined) throw cursor.error(at, `${what} has the unknown type ${number}`);
  return type;
}

/** Reads a metadata value, its type before it. */
export async function readValue(cursor: Cursor, what: string): Promise<GgufValue> {
  const type = await readType(cursor, what);
  if (type === "array") return readArray(cursor, what, 1);
  if (type === "string") return { type, value: await readString(cursor, what) };
  if (type === "bool") {
    await cursor.need(1, what);
    return { type, value: takeBoolean(cursor, what) };
  }
  await cursor.need(numberBytes[type], what);
  return { type, value: takeNumber(cursor, type) };
}

async function readArray(cursor: Cursor, what: string, depth: number): Promise<GgufArray> {
  const at = cursor.position;
  if (depth > MAX_ARRAY_DEPTH) throw cursor.error(at, `${what} nests arrays deeper than ${MAX_ARRAY_DEPTH}`);
  const of = await readType(cursor, what);
  await cursor.need(8, what);
  const claimed = cursor.view.getBigUint64(cursor.take(8), true);
  if (claimed > MAX_ARRAY_LENGTH) {
    throw cursor.error(at, `${what} claims ${claimed} elements, at most ${MAX_ARRAY_LENGTH} are read`);
  }
  const length = Number(claimed);
  if (of === "array") {
    const value: GgufArray[] = [];
    for (let i = 0; i < length; i++) value.push(await readArray(cursor, what, depth + 1));
    return { type: "array", of, value };
  }
  if (of === "string") {
    const value: string[] = [];
    cursor.mustRemain(length * 8, what);
    // Vocabularies hold 100,000s of strings: a promise for each would double the time that opening takes.
    for (let i = 0; i < length; i++) value.push(takeString(cursor, what) ?? (await readString(cursor, what)));
    return { type: "array", of, value };
  }
  if (of === "bool") {
    await cursor.need(length, what);
    return { type: "array", of, value: Array.from({ length }, () => takeBoolean(cursor, what)) };
  }
  await cursor.need(length * numberBytes[of], what);
  const from = cursor.view.byteOffset + cursor.take(length * numberBytes[of]);
  // A copy, because elements of several bytes must be aligned in memory.
  const bytes = cursor.view.buffer.slice(from, from + length * numberBytes[of]);
  return { type: "array", of, value: new numberArrays[of](bytes) };
}

function takeBoolean(cursor: Cursor, what: string): boolean {
  const at = cursor.position;
  const byte = cursor.view.getUint8(cursor.take(1));
  if (byte > 1) throw cursor.error(at, `${what} must be 0 or 1, a boolean, got ${byte}`);
  return byte === 1;
}

function takeNumber(cursor: Cursor, type: GgufNumberType): number | bigint {
  const { view } = cursor;
  const at = cursor.take(numberBytes[type]);
  switch (type) {
    case "u8":
      return view.getUint8(at);
    case "i8":
      return view.getInt8(at);
    case "u16":
      return view.getUint16(at, true);
    case "i16":
      return view.getInt16(at, true);
    case "u32":
      return view.getUint32(at, true);
    case "i32":
      return view.getInt32(at, true);
    case "f32":
      return view.getFloat32(at, true);
    case "f64":
      return view.getFloat64(at, true);
    case "u64":
      return numberIfSafe(view.getBigUint64(at, true));
    case "i64":
      return numberIfSafe(view.getBigInt64(at, true));
  }
}

function numberIfSafe(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
