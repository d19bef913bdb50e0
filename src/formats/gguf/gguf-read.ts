/**
 * Reads a GGUF header (ggml-org/ggml, docs/gguf.md): magic, version, counts, key/value metadata, tensor infos; the tensors'
 * bytes follow, each aligned. Every number in it is a claim: lengths are checked against the file's size before anything
 * is allocated, and the header is read through a window, never the whole file.
 */
import { FormatError } from "../../errors.ts";
import { blockLayout, rowBytes, type Encoding } from "../../tensor/encoding.ts";
import type { ByteSource } from "../bytes.ts";
import { createCursor, type Cursor } from "./gguf-cursor.ts";
import { DEFAULT_ALIGNMENT, MAGIC, tensorTypes, type GgufMetadata, type GgufValue } from "./gguf-types.ts";
import { readString, readValue } from "./gguf-values.ts";

/** A 24-byte header can claim 2⁶⁴ keys and keep us in a loop. Real files have a few dozen. */
const MAX_METADATA_KEYS = 65_536;
/** A claim of 2⁶⁴ tensors would do the same; a model of 1,000 layers has about 9,000. */
const MAX_TENSORS = 65_536;
/** The specification's limit on a key. Tensor names there have at most 64 bytes; some writers pass that. */
const MAX_NAME_BYTES = 65_535;
/** ggml's GGML_MAX_DIMS. */
const MAX_DIMENSIONS = 4;

/** What the header says of a tensor. */
export type GgufTensorInfo = {
  /** GGUF's name, such as `blk.0.attn_q.weight`. */
  readonly name: string;
  /** Sizes in Hugging Face's order, which is ggml's reversed. */
  readonly shape: readonly number[];
  readonly encoding: Encoding;
  /** The first byte's place in the file. */
  readonly offset: number;
  readonly byteLength: number;
};

/** All that stands before the tensors' bytes. */
export type GgufHeader = {
  readonly version: number;
  readonly metadata: GgufMetadata;
  readonly tensors: readonly GgufTensorInfo[];
};

/** Reads the header, and nothing of the tensors. @throws {FormatError} naming what is wrong and the byte where. */
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
  let before: GgufTensorInfo | undefined;
  for (const tensor of inOrder) {
    if (before !== undefined && before.offset + before.byteLength > tensor.offset) {
      throw new FormatError(
        `${file}: tensor ${tensor.name} begins inside ${before.name} (at byte ${tensor.offset}). The file is damaged; download it again.`,
      );
    }
    before = tensor;
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
  const [cols = 1] = sizes;
  if (cols % blockLayout[encoding].elements !== 0) {
    throw cursor.error(
      at,
      `${what}: a row of ${encoding} must hold whole blocks of ${blockLayout[encoding].elements}, got ${cols} columns`,
    );
  }
  const byteLength = rowBytes(encoding, cols) * (elements / cols);
  return { name, shape: sizes.toReversed(), encoding, offset, byteLength };
}

function readAlignment(file: string, metadata: GgufMetadata): number {
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

function hex(word: number): string {
  return `0x${word.toString(16).padStart(8, "0")}`;
}
