/**
 * safetensors: 8 bytes of header length (little-endian), a JSON header `{ name: { dtype, shape, data_offsets } }`, and the
 * tensors' bytes end to end (huggingface/safetensors, "Format"). Nothing in it can run; what remains is to trust no number.
 */
import { describe, FormatError, isObject } from "../errors.ts";
import { blockLayout } from "../tensor/encoding.ts";
import { readBytes, type ByteSink, type ByteSource } from "./bytes.ts";
import { elementCount, type TensorEntry } from "./checkpoint.ts";
import { decodeUtf8 } from "./json.ts";

/** The first 8 bytes can claim 2⁶⁴ bytes of header. The limit is the reference implementation's. */
const MAX_HEADER_BYTES = 100_000_000;
/** Real weights are matrices; the limit keeps the product of a shape's sizes from being a long loop. */
const MAX_RANK = 8;

const encodings = ["F32", "F16", "BF16"] as const;
/** The encodings that safetensors and PyTorch files hold, as far as they are read. */
export type FloatEncoding = (typeof encodings)[number];

/** Reads the header; the tensors' bytes stay in the file. @throws {FormatError} for a header that is wrong in any way. */
export async function readSafetensors(source: ByteSource): Promise<Map<string, TensorEntry>> {
  const file = source.name;
  const prefix = await readBytes(source, 0, 8, "the header's length");
  const claimed = new DataView(prefix.buffer).getBigUint64(0, true);
  if (claimed > MAX_HEADER_BYTES || claimed > source.size - 8) {
    throw new FormatError(
      `${file}: the header claims ${claimed} bytes, ${source.size - 8} remain (at byte 0). Not safetensors, or cut short; download it again.`,
    );
  }
  const headerBytes = Number(claimed);
  const header = parseHeader(await readBytes(source, 8, headerBytes, "the header"), file);

  const dataStart = 8 + headerBytes;
  const tensors = new Map<string, TensorEntry>();
  for (const [name, info] of Object.entries(header)) {
    if (name !== "__metadata__") tensors.set(name, readEntry(source, name, info, dataStart));
  }
  checkLayout(tensors, dataStart, source);
  return tensors;
}

function parseHeader(bytes: Uint8Array, file: string): Record<string, unknown> {
  let text: string;
  let header: unknown;
  try {
    text = decodeUtf8(bytes);
    header = JSON.parse(text);
  } catch (cause) {
    throw new FormatError(
      `${file}: the header must be JSON (at byte 8). Not safetensors, or damaged; download it again.`,
      {
        cause,
      },
    );
  }
  if (!isObject(header)) throw new FormatError(`${file}: the header must be a JSON object, got ${describe(header)}.`);
  const twice = firstDuplicateKey(text);
  if (twice !== undefined) throw new FormatError(`${file}: the header names ${describe(twice)} twice.`);
  return header;
}

function readEntry(source: ByteSource, name: string, info: unknown, dataStart: number): TensorEntry {
  const where = `${source.name}: tensor ${name}`;
  if (!isObject(info)) throw new FormatError(`${where} must be described by an object, got ${describe(info)}.`);
  const { dtype, shape, data_offsets: range } = info;
  const encoding = encodings.find((known) => known === dtype);
  if (encoding === undefined) {
    throw new FormatError(`${where} must be one of ${encodings.join(", ")}, got ${describe(dtype)}.`);
  }
  if (!Array.isArray(shape) || shape.length > MAX_RANK || !shape.every(isCount)) {
    throw new FormatError(`${where}: shape must hold at most ${MAX_RANK} whole numbers, got ${describe(shape)}.`);
  }
  const byteLength = elementCount(shape) * blockLayout[encoding].bytes;
  if (!Array.isArray(range) || range.length !== 2 || !isCount(range[0]) || !isCount(range[1]) || range[0] > range[1]) {
    throw new FormatError(`${where}: data_offsets must be [begin, end], got ${describe(range)}.`);
  }
  const [begin, end] = range;
  if (end - begin !== byteLength) {
    throw new FormatError(
      `${where}: ${encoding} of shape [${shape.join(", ")}] takes ${byteLength} bytes, but its range has ${end - begin}.`,
    );
  }
  const offset = dataStart + begin;
  if (dataStart + end > source.size) {
    throw new FormatError(
      `${where} needs ${byteLength} bytes, ${Math.max(0, source.size - offset)} remain (at byte ${offset}). Download it again.`,
    );
  }
  return { name, shape, encoding, source, offset, byteLength };
}

/** The format forbids overlaps and holes: bytes that no tensor owns could carry something else. */
function checkLayout(tensors: ReadonlyMap<string, TensorEntry>, dataStart: number, source: ByteSource): void {
  const inOrder = [...tensors.values()].sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
  let end = dataStart;
  let before = "the header";
  for (const tensor of inOrder) {
    if (tensor.offset !== end) {
      const problem = tensor.offset < end ? `overlaps ${before}` : `leaves a hole after ${before}`;
      throw new FormatError(`${source.name}: tensor ${tensor.name} ${problem} (at byte ${tensor.offset}).`);
    }
    end = tensor.offset + tensor.byteLength;
    before = `tensor ${tensor.name}`;
  }
  if (end !== source.size) {
    throw new FormatError(`${source.name}: no tensor owns the file's last bytes (${end} to ${source.size}).`);
  }
}

/**
 * JSON.parse keeps the last of equal keys and says nothing. `text` is valid JSON. A regular expression would do, but it
 * overflows its stack on a string of some megabytes.
 */
function firstDuplicateKey(text: string): string | undefined {
  const scopes: (Set<string> | undefined)[] = []; // keys seen in each open object; undefined for an array
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (character === "{") scopes.push(new Set());
    else if (character === "[") scopes.push(undefined);
    else if (character === "}" || character === "]") scopes.pop();
    else if (character === '"') {
      const start = at;
      at = stringEnd(text, start);
      let next = at + 1;
      while (" \t\r\n".includes(text[next] ?? "-")) next++;
      if (text[next] !== ":") continue;
      const key = JSON.parse(text.slice(start, at + 1)) as string;
      const seen = scopes.at(-1);
      if (seen?.has(key)) return key;
      seen?.add(key);
    }
  }
  return undefined;
}

/** The index of the quote that closes the string opened at `start`: one after an even number of backslashes. */
function stringEnd(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end >= 0; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text[end - 1 - backslashes] === "\\") backslashes++;
    if (backslashes % 2 === 0) return end;
  }
  return text.length;
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** A tensor to write; `bytes` is called once, when its turn has come. */
export type TensorToWrite = {
  readonly name: string;
  readonly shape: readonly number[];
  readonly encoding: FloatEncoding;
  readonly bytes: () => Uint8Array | Promise<Uint8Array>;
};

const DEFAULT_METADATA: Readonly<Record<string, string>> = { format: "pt" };

/**
 * Writes a file, one tensor in memory at a time.
 * @param metadata transformers asks for `format: "pt"`, which is the default.
 * @throws {RangeError} for a name given twice or bytes that don't match the shape.
 */
export async function writeSafetensors(
  sink: ByteSink,
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = DEFAULT_METADATA,
): Promise<void> {
  const { inOrder, header } = layOut(tensors, metadata);
  await sink.write(header);
  for (const tensor of inOrder) {
    const bytes = await tensor.bytes();
    const expected = byteCount(tensor.shape, tensor.encoding);
    if (bytes.length !== expected) {
      throw new RangeError(
        `writeSafetensors: tensor ${tensor.name} of shape [${tensor.shape.join(", ")}] takes ${expected} bytes, got ${bytes.length}.`,
      );
    }
    await sink.write(bytes);
  }
}

/** Gives the size in bytes of the file that `writeSafetensors` writes. */
export function safetensorsSize(
  tensors: readonly Omit<TensorToWrite, "bytes">[],
  metadata: Readonly<Record<string, string>> = DEFAULT_METADATA,
): number {
  const { header, dataBytes } = layOut(tensors, metadata);
  return header.length + dataBytes;
}

function layOut<T extends Omit<TensorToWrite, "bytes">>(
  tensors: readonly T[],
  metadata: Readonly<Record<string, string>>,
): { inOrder: readonly T[]; header: Uint8Array; dataBytes: number } {
  // Wide elements first, so that every tensor lies at a multiple of its element's size.
  const inOrder = [...tensors].sort((a, b) => blockLayout[b.encoding].bytes - blockLayout[a.encoding].bytes);
  const header = new Map<string, unknown>([["__metadata__", metadata]]);
  let end = 0;
  for (const { name, shape, encoding } of inOrder) {
    if (header.has(name)) throw new RangeError(`writeSafetensors: tensor ${name} was given twice.`);
    const begin = end;
    end += byteCount(shape, encoding);
    header.set(name, { dtype: encoding, shape, data_offsets: [begin, end] });
  }
  return { inOrder, header: encodeHeader(JSON.stringify(Object.fromEntries(header))), dataBytes: end };
}

function byteCount(shape: readonly number[], encoding: FloatEncoding): number {
  return elementCount(shape) * blockLayout[encoding].bytes;
}

/** Spaces pad the header to a multiple of 8, so that the data that follow are aligned. */
function encodeHeader(json: string): Uint8Array {
  const text = new TextEncoder().encode(json);
  const padded = Math.ceil(text.length / 8) * 8;
  const bytes = new Uint8Array(8 + padded).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(padded), true);
  bytes.set(text, 8);
  return bytes;
}
