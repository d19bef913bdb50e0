/** Bytes to read at random and to write in order. */
import { FormatError } from "../errors.ts";

/** Random access to bytes: a file, a Blob, an array in memory. */
export type ByteSource = {
  /** The file's name, without its folder, for messages. */
  readonly name: string;
  /** How many bytes there are. */
  readonly size: number;
  /** Fills all of `into` with the bytes from `offset` on. @throws {FormatError} if the source ends before. */
  read(offset: number, into: Uint8Array): Promise<void>;
};

/** Takes bytes, in the order in which they shall lie: a file, a hash, an array in memory. */
export type ByteSink = { write(bytes: Uint8Array): Promise<void> };

/** A source over bytes in memory. */
export function bytesSource(name: string, bytes: Uint8Array | Blob): ByteSource {
  const size = bytes instanceof Uint8Array ? bytes.length : bytes.size;
  return {
    name,
    size,
    async read(offset, into) {
      const end = offset + into.length;
      if (end > size) throw new FormatError(`${name}: ends at byte ${size}, ${end} were required. Download it again.`);
      const part = bytes instanceof Uint8Array ? bytes.subarray(offset, end) : await readBlob(bytes, offset, end);
      into.set(part);
    },
  };
}

async function readBlob(blob: Blob, start: number, end: number): Promise<Uint8Array> {
  return new Uint8Array(await blob.slice(start, end).arrayBuffer());
}

/**
 * Reads `length` bytes from `offset` on.
 * @param what is read, for messages.
 * @throws {FormatError} if the source does not hold them; nothing is allocated then.
 */
export async function readBytes(source: ByteSource, offset: number, length: number, what: string): Promise<Uint8Array> {
  if (offset < 0 || length < 0 || offset + length > source.size) {
    throw new FormatError(
      `${source.name}: ${what} needs ${length} bytes at byte ${offset}, but the file ends at ${source.size}. Download it again.`,
    );
  }
  const bytes = new Uint8Array(length);
  await source.read(offset, bytes);
  return bytes;
}

/** Reads a whole file. @throws {FormatError} if it has more than `limit` bytes. */
export async function readWhole(source: ByteSource, limit: number): Promise<Uint8Array> {
  if (source.size > limit) {
    throw new FormatError(`${source.name}: at most ${limit} bytes were expected, got ${source.size}.`);
  }
  return readBytes(source, 0, source.size, "the file");
}
