/**
 * The part of ZIP (PKWARE APPNOTE 6.3.9) that torch.save writes: stored entries, ZIP64 where needed. Nothing is ever
 * decompressed, so no entry can be larger than the bytes that it takes in the file.
 */
import { FormatError } from "../errors.ts";
import { readBytes, type ByteSource } from "./bytes.ts";

/** There is one per tensor, and a handful more; 54 blocks have about 500. A directory of millions only serves to fill memory. */
const MAX_ENTRIES = 100_000;
/** 46 bytes and a short name each. */
const MAX_DIRECTORY_BYTES = 32 * 1024 * 1024;

const END_BYTES = 22;
const MAX_COMMENT_BYTES = 65_535;

/** A file in the ZIP. */
export type StoredEntry = {
  readonly name: string;
  readonly byteLength: number;
  /** Where the entry's local header begins; `locateEntry` finds the data behind it. */
  readonly headerOffset: number;
  /** The central directory's first byte, where entries must end. */
  readonly limit: number;
};

/** Reads the central directory: the entries by name. @throws {FormatError} for what torch.save does not write. */
export async function readZipDirectory(source: ByteSource): Promise<Map<string, StoredEntry>> {
  const { count, offset, byteLength } = await findDirectory(source);
  if (count > MAX_ENTRIES || byteLength > MAX_DIRECTORY_BYTES) {
    throw new FormatError(
      `${source.name}: at most ${MAX_ENTRIES} ZIP entries (${MAX_DIRECTORY_BYTES} bytes) were expected, got ${count} (${byteLength} bytes).`,
    );
  }
  const view = viewOf(await readBytes(source, offset, byteLength, "the ZIP directory"));
  const entries = new Map<string, StoredEntry>();
  let at = 0;
  let total = 0;
  for (let i = 0; i < count; i++) {
    if (at + 46 > view.byteLength || view.getUint32(at, true) !== 0x02014b50) {
      throw damaged(source, `entry ${i} of ${count} is missing from the directory`, offset + at);
    }
    const flags = view.getUint16(at + 8, true);
    const method = view.getUint16(at + 10, true);
    const nameBytes = view.getUint16(at + 28, true);
    const extraBytes = view.getUint16(at + 30, true);
    const next = at + 46 + nameBytes + extraBytes + view.getUint16(at + 32, true);
    if (next > view.byteLength) throw damaged(source, `entry ${i} runs out of the directory`, offset + at);
    const name = new TextDecoder().decode(subarray(view, at + 46, nameBytes));
    const where = `${source.name}: entry ${name}`;
    if ((flags & 1) !== 0) throw new FormatError(`${where} is encrypted.`);
    if (method !== 0) {
      throw new FormatError(`${where} is compressed (method ${method}); torch.save stores. Save it again with torch.`);
    }
    const wide = zip64Fields(view, at, nameBytes, extraBytes);
    if (wide === undefined) throw damaged(source, `entry ${name} lacks its 64-bit sizes`, offset + at);
    const { stored, size, headerOffset } = wide;
    if (stored !== size) throw new FormatError(`${where} claims ${size} bytes but stores ${stored}.`);
    total += size;
    // Entries that overlap each other are another way to a ZIP bomb; disjoint ones can't exceed the file.
    if (headerOffset + 30 + size > offset || total > source.size) {
      throw new FormatError(`${where} needs ${size} bytes, more than the file has (at byte ${headerOffset}).`);
    }
    if (entries.has(name)) throw new FormatError(`${where} is there twice.`);
    entries.set(name, { name, byteLength: size, headerOffset, limit: offset });
    at = next;
  }
  return entries;
}

/** Finds the byte at which an entry's data start. */
export async function locateEntry(source: ByteSource, entry: StoredEntry): Promise<number> {
  const { headerOffset } = entry;
  const view = viewOf(await readBytes(source, headerOffset, 30, `entry ${entry.name}`));
  if (view.getUint32(0, true) !== 0x04034b50) throw damaged(source, `entry ${entry.name} has no header`, headerOffset);
  const start = headerOffset + 30 + view.getUint16(26, true) + view.getUint16(28, true);
  if (start + entry.byteLength > entry.limit) {
    throw new FormatError(
      `${source.name}: entry ${entry.name} needs ${entry.byteLength} bytes, ${Math.max(0, entry.limit - start)} remain (at byte ${start}).`,
    );
  }
  return start;
}

type Directory = { readonly count: number; readonly offset: number; readonly byteLength: number };

async function findDirectory(source: ByteSource): Promise<Directory> {
  const tailBytes = Math.min(source.size, END_BYTES + MAX_COMMENT_BYTES);
  const tailStart = source.size - tailBytes;
  const view = viewOf(await readBytes(source, tailStart, tailBytes, "the ZIP directory"));
  for (let at = tailBytes - END_BYTES; at >= 0; at--) {
    if (view.getUint32(at, true) !== 0x06054b50) continue;
    if (at + END_BYTES + view.getUint16(at + 20, true) !== tailBytes) continue;
    const directory = {
      count: view.getUint16(at + 10, true),
      byteLength: view.getUint32(at + 12, true),
      offset: view.getUint32(at + 16, true),
    };
    const isWide = directory.count === 0xffff || directory.byteLength === 0xffffffff || directory.offset === 0xffffffff;
    return isWide ? zip64Directory(source, tailStart + at) : directory;
  }
  throw new FormatError(
    `${source.name}: the ZIP directory is missing from the file's end (${source.size} bytes). Download it again.`,
  );
}

async function zip64Directory(source: ByteSource, endOffset: number): Promise<Directory> {
  const locator = viewOf(await readBytes(source, endOffset - 20, 20, "the ZIP64 locator"));
  const recordOffset = uint64(locator, 8);
  if (locator.getUint32(0, true) !== 0x07064b50 || recordOffset === undefined) {
    throw damaged(source, "the ZIP64 locator is missing", endOffset - 20);
  }
  const record = viewOf(await readBytes(source, recordOffset, 56, "the ZIP64 directory"));
  const count = uint64(record, 32);
  const byteLength = uint64(record, 40);
  const offset = uint64(record, 48);
  if (
    record.getUint32(0, true) !== 0x06064b50 ||
    count === undefined ||
    byteLength === undefined ||
    offset === undefined
  ) {
    throw damaged(source, "the ZIP64 directory is not one", recordOffset);
  }
  return { count, byteLength, offset };
}

/** Sizes and offset of a directory entry; a field of all ones is replaced by the next one of the ZIP64 extra (id 1). */
function zip64Fields(
  view: DataView,
  at: number,
  nameBytes: number,
  extraBytes: number,
): { readonly stored: number; readonly size: number; readonly headerOffset: number } | undefined {
  const narrow = [view.getUint32(at + 24, true), view.getUint32(at + 20, true), view.getUint32(at + 42, true)];
  let field: number | undefined;
  let end = 0;
  const extraEnd = at + 46 + nameBytes + extraBytes;
  for (let extra = at + 46 + nameBytes; extra + 4 <= extraEnd; extra += 4 + view.getUint16(extra + 2, true)) {
    if (view.getUint16(extra, true) !== 1) continue;
    field = extra + 4;
    end = Math.min(extraEnd, field + view.getUint16(extra + 2, true));
    break;
  }
  const values: number[] = [];
  for (const value of narrow) {
    if (value !== 0xffffffff) {
      values.push(value);
      continue;
    }
    if (field === undefined || field + 8 > end) return undefined;
    const wide = uint64(view, field);
    if (wide === undefined) return undefined;
    values.push(wide);
    field += 8;
  }
  const [size, stored, headerOffset] = values as [number, number, number];
  return { stored, size, headerOffset };
}

function uint64(view: DataView, at: number): number | undefined {
  const value = Number(view.getBigUint64(at, true));
  return Number.isSafeInteger(value) ? value : undefined;
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function subarray(view: DataView, at: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + at, length);
}

function damaged(source: ByteSource, what: string, offset: number): FormatError {
  return new FormatError(`${source.name}: ${what} (at byte ${offset}). Damaged; download it again.`);
}
