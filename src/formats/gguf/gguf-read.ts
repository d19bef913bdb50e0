/**
 * Reads a GGUF header (ggml-org/ggml, docs/gguf.md): magic, version, counts, key/value metadata, tensor infos; the tensors'
 * bytes follow, each aligned. Every number in it is a claim: lengths are checked against the file's size before anything
 * is allocated, and the header is read through a window, never the whole file.
 */
import { FormatError } from "../../errors.ts";
import { blockLayout, rowBytes, type Encoding } from "../../tensor/encoding.ts";
import type { ByteSource } from "../bytes.ts";
import {
  DEFAULT_ALIGNMENT,
  ggufTypes,
  MAGIC,
  numberArrays,
  numberBytes,
  tensorTypes,
  type GgufArray,
  type GgufNumberType,
  type GgufType,
  type GgufValue,
} from "./gguf-types.ts";

/** A 24-byte header can claim 2⁶⁴ keys and keep us in a loop. Real files have a few dozen. */
const MAX_METADATA_KEYS = 65_536;
/** The same for tensors; a model of 1,000 layers has about 9,000. */
const MAX_TENSORS = 65_536;
/** The specification's limit on a key. Tensor names there have at most 64 bytes; some writers pass that. */
const MAX_NAME_BYTES = 65_535;
/** A string's length is a claim of up to 2⁶⁴ bytes. Long ones are chat templates, of some 10 kB. */
const MAX_STRING_BYTES = 16 * 1024 * 1024;
/** Vocabularies and merges are the long arrays: 256,000 tokens, 600,000 merges. */
const MAX_ARRAY_LENGTH = 4_194_304;
/** Arrays of arrays are allowed but unused; a long chain of them would overflow our stack. */
const MAX_ARRAY_DEPTH = 4;
/** Empty strings cost 8 bytes in the file and more with us, so all that a header holds is limited too. */
const MAX_HEADER_BYTES = 256 * 1024 * 1024;
/** ggml's GGML_MAX_DIMS. */
const MAX_DIMENSIONS = 4;
/** The first read; windows then double up to a limit, as most files' headers take 20 kB to 10 MB. */
const FIRST_WINDOW_BYTES = 64 * 1024;
const LARGEST_WINDOW_BYTES = 4 * 1024 * 1024;

export type GgufTensorInfo = {
  /** As in the file, such as `blk.0.attn_q.weight`. */
  readonly name: string;
  /** Hugging Face's order: ggml's dimensions reversed. */
  readonly shape: readonly number[];
  readonly encoding: Encoding;
  /** From the start of the file. */
  readonly offset: number;
  readonly byteLength: number;
};

export type GgufHeader = {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, GgufValue>;
  readonly tensors: readonly GgufTensorInfo[];
};

/** @throws {FormatError} naming what is wrong and the byte where. */
export async function readGgufHeader(source: ByteSource): Promise<GgufHeader> {
  const cursor = createCursor(source);
  const version = await readVersion(cursor);
  const tensorCount = await readCount(cursor, "tensors", MAX_TENSORS);
  const keyCount = await readCount(cursor, "metadata keys", MAX_METADATA_KEYS);

  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keyCount; i++) {
    const at = cursor.position;
    const key = await readString(cursor, `metadata key ${i}`, MAX_NAME_BYTES);
    if (metadata.has(key)) throw cursor.error(at, `metadata key ${key} is there twice`);
    metadata.set(key, await readValue(cursor, `metadata ${key}`));
  }

  const infos: (GgufTensorInfo & { readonly infoAt: number })[] = [];
  const names = new Set<string>();
  for (let i = 0; i < tensorCount; i++) {
    const infoAt = cursor.position;
    const info = await readTensorInfo(cursor, i);
    if (names.has(info.name)) throw cursor.error(infoAt, `tensor ${info.name} is there twice`);
    names.add(info.name);
    infos.push({ ...info, infoAt });
  }

  const alignment = readAlignment(source.name, metadata);
  const dataStart = Math.ceil(cursor.position / alignment) * alignment;
  const tensors = infos.map(({ infoAt, ...info }): GgufTensorInfo => {
    if (info.offset % alignment !== 0) {
      throw cursor.error(infoAt, `tensor ${info.name} must start at a multiple of ${alignment}, got ${info.offset}`);
    }
    const offset = dataStart + info.offset;
    if (offset + info.byteLength > source.size) {
      throw new FormatError(
        `${source.name}: tensor ${info.name} needs ${info.byteLength} bytes, ${Math.max(0, source.size - offset)} remain (at byte ${offset}). Download it again.`,
      );
    }
    return { ...info, offset };
  });
  refuseOverlap(source.name, tensors);
  return { version, metadata, tensors };
}

function refuseOverlap(file: string, tensors: readonly GgufTensorInfo[]): void {
  const inOrder = tensors.toSorted((a, b) => a.offset - b.offset);
  for (let i = 1; i < inOrder.length; i++) {
    const before = inOrder[i - 1]!;
    const tensor = inOrder[i]!;
    if (before.offset + before.byteLength > tensor.offset) {
      throw new FormatError(
        `${file}: tensor ${tensor.name} begins inside ${before.name} (at byte ${tensor.offset}). The file is damaged; download it again.`,
      );
    }
  }
}

async function readVersion(cursor: Cursor): Promise<number> {
  await cursor.need(8, "the magic and version");
  const magic = cursor.view.getUint32(cursor.take(4), true);
  if (magic !== MAGIC) throw cursor.error(0, `expected "GGUF", got ${hex(magic)}`, "Is it another format?");
  const version = cursor.view.getUint32(cursor.take(4), true);
  if (version !== 0 && (version & 0xffff) === 0) {
    throw cursor.error(
      4,
      "the file is big-endian, only little-endian is read",
      "Convert it with gguf_convert_endian.py.",
    );
  }
  if (version !== 2 && version !== 3) {
    throw cursor.error(4, `version must be 2 or 3, got ${version}`, "Convert it with a recent llama.cpp.");
  }
  return version;
}

async function readCount(cursor: Cursor, what: string, limit: number): Promise<number> {
  const at = cursor.position;
  await cursor.need(8, `the number of ${what}`);
  const count = cursor.view.getBigUint64(cursor.take(8), true);
  if (count > limit) throw cursor.error(at, `at most ${limit} ${what} are read, the header claims ${count}`);
  return Number(count);
}

async function readString(cursor: Cursor, what: string, limit: number = MAX_STRING_BYTES): Promise<string> {
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

async function readValue(cursor: Cursor, what: string): Promise<GgufValue> {
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

/** `offset` is still relative to the start of the data. */
async function readTensorInfo(cursor: Cursor, index: number): Promise<GgufTensorInfo> {
  const at = cursor.position;
  const name = await readString(cursor, `the name of tensor ${index}`, MAX_NAME_BYTES);
  const what = `tensor ${name}`;
  await cursor.need(4, what);
  const dimensions = cursor.view.getUint32(cursor.take(4), true);
  if (dimensions < 1 || dimensions > MAX_DIMENSIONS) {
    throw cursor.error(at, `${what} must have 1 to ${MAX_DIMENSIONS} dimensions, got ${dimensions}`);
  }
  await cursor.need(dimensions * 8 + 12, what);
  const sizes = Array.from({ length: dimensions }, () => Number(cursor.view.getBigUint64(cursor.take(8), true)));
  const type = cursor.view.getUint32(cursor.take(4), true);
  const offset = Number(cursor.view.getBigUint64(cursor.take(8), true));

  const encoding = tensorTypes.get(type);
  if (encoding === undefined) {
    const known = [...tensorTypes.values()].join(", ");
    throw cursor.error(at, `${what} is of ggml type ${type}; ${known} are read`, "Quantize it to one of these.");
  }
  const elements = sizes.reduce((product, size) => product * size, 1);
  if (elements < 1 || elements > Number.MAX_SAFE_INTEGER) {
    throw cursor.error(at, `${what} can't have shape [${sizes.toReversed().join(", ")}]`);
  }
  const cols = sizes[0]!;
  if (cols % blockLayout[encoding].elements !== 0) {
    throw cursor.error(
      at,
      `${what}: a row of ${encoding} must hold whole blocks of ${blockLayout[encoding].elements}, got ${cols} columns`,
    );
  }
  const byteLength = rowBytes(encoding, cols) * (elements / cols);
  return { name, shape: sizes.toReversed(), encoding, offset, byteLength };
}

function readAlignment(file: string, metadata: ReadonlyMap<string, GgufValue>): number {
  const alignment = metadata.get("general.alignment");
  if (alignment === undefined) return DEFAULT_ALIGNMENT;
  const { value } = alignment;
  if (alignment.type !== "u32" || typeof value !== "number" || value === 0 || !Number.isInteger(Math.log2(value))) {
    throw new FormatError(
      `${file}: general.alignment must be a power of two (u32), got ${typeof value === "number" ? value : alignment.type}.`,
    );
  }
  return value;
}

/** A forward reader. `need` makes bytes available at the position, `take` passes over them. */
type Cursor = {
  readonly position: number;
  /** Bytes from the position to the window's end. */
  readonly inWindow: number;
  /** The window. Its offsets are those that `take` returns. */
  readonly view: DataView<ArrayBuffer>;
  /** Returns a promise only if the window must move; await it before `take`. */
  need(byteCount: number, what: string): Promise<void> | undefined;
  /** Throws unless the file goes on for this many bytes. */
  mustRemain(byteCount: number, what: string): void;
  /** Passes over bytes that `need` made available; returns their offset in `view`. */
  take(byteCount: number): number;
  error(at: number, problem: string, advice?: string, cause?: unknown): FormatError;
};

function createCursor(source: ByteSource): Cursor {
  let view = new DataView(new ArrayBuffer(0));
  let windowStart = 0;
  let position = 0;
  let nextBytes = FIRST_WINDOW_BYTES;

  const error: Cursor["error"] = (at, problem, advice = "The file is damaged; download it again.", cause) =>
    new FormatError(
      `${source.name}: ${problem} (at byte ${at}). ${advice}`,
      cause === undefined ? undefined : { cause },
    );

  function mustRemain(byteCount: number, what: string): void {
    if (position + byteCount > source.size) {
      throw error(
        position,
        `${what} needs ${byteCount} bytes, ${source.size - position} remain`,
        "The file is cut short; download it again.",
      );
    }
  }

  async function moveWindow(byteCount: number): Promise<void> {
    const bytes = new Uint8Array(Math.min(source.size - position, Math.max(byteCount, nextBytes)));
    await source.read(position, bytes);
    view = new DataView(bytes.buffer);
    windowStart = position;
    nextBytes = Math.min(nextBytes * 2, LARGEST_WINDOW_BYTES);
  }

  return {
    get position() {
      return position;
    },
    get inWindow() {
      return windowStart + view.byteLength - position;
    },
    get view() {
      return view;
    },
    need(byteCount, what) {
      if (position + byteCount <= windowStart + view.byteLength) return undefined;
      mustRemain(byteCount, what);
      if (position + byteCount > MAX_HEADER_BYTES) {
        throw error(position, `the header is longer than the ${MAX_HEADER_BYTES} bytes that are read`);
      }
      return moveWindow(byteCount);
    },
    mustRemain,
    take(byteCount) {
      const from = position - windowStart;
      position += byteCount;
      return from;
    },
    error,
  };
}

function hex(word: number): string {
  return `0x${word.toString(16).padStart(8, "0")}`;
}
