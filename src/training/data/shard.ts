/**
 * Token shards in the format of llm.c (karpathy/llm.c, dev/data/data_common.py): 256 int32 of header (magic, version, count),
 * then the ids, little endian. GPT-2's kind holds 16 bits an id, Llama 3's 32.
 */
import { FormatError } from "../../errors.ts";

/** How an id lies in a shard. */
export type TokenDtype = "uint16" | "uint32";

/** What a shard's header says. */
export type ShardHeader = { readonly dtype: TokenDtype; readonly tokens: number };

/** Bytes before the first id. */
export const SHARD_HEADER_BYTES = 1024;
/** The most tokens of a shard: the header's count is a signed 32-bit number. */
export const MAX_SHARD_TOKENS: number = 2 ** 31 - 1;

const kinds = {
  uint16: { magic: 20240520, version: 1 },
  uint32: { magic: 20240801, version: 7 },
} as const;

/** Chooses the smallest type that holds every id of a vocabulary. */
export function tokenDtype(vocabSize: number): TokenDtype {
  return vocabSize <= 65_536 ? "uint16" : "uint32";
}

/** Gives the bytes of an id. */
export function tokenBytes(dtype: TokenDtype): number {
  return dtype === "uint16" ? 2 : 4;
}

/** Writes a header. */
export function writeShardHeader({ dtype, tokens }: ShardHeader): Uint8Array {
  const header = new DataView(new ArrayBuffer(SHARD_HEADER_BYTES));
  header.setInt32(0, kinds[dtype].magic, true);
  header.setInt32(4, kinds[dtype].version, true);
  header.setInt32(8, tokens, true);
  return new Uint8Array(header.buffer);
}

/**
 * Reads a header.
 * @param bytes the first SHARD_HEADER_BYTES of the file.
 * @param size of the file.
 * @throws {FormatError} if this is no shard, or not all of one.
 */
export function readShardHeader(bytes: Uint8Array, size: number, name: string): ShardHeader {
  const header = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const word = (index: number): number =>
    bytes.length >= 4 * index + 4 ? header.getInt32(4 * index, true) : Number.NaN;
  const dtype = (["uint16", "uint32"] as const).find((dtype) => kinds[dtype].magic === word(0));
  if (dtype === undefined) {
    const wanted = Object.values(kinds).map(({ magic }) => magic);
    const found = Number.isNaN(word(0)) ? `has ${size} bytes` : `begins with ${word(0)}`;
    throw new FormatError(`${name}: an llm.c token shard begins with ${wanted.join(" or ")}, this ${found}.`);
  }
  if (word(1) !== kinds[dtype].version) {
    throw new FormatError(`${name}: version ${kinds[dtype].version} of llm.c's format was required, got ${word(1)}.`);
  }
  const tokens = word(2);
  const needed = SHARD_HEADER_BYTES + tokens * tokenBytes(dtype);
  if (!(tokens >= 0) || size !== needed) {
    throw new FormatError(
      `${name}: ${tokens} tokens of ${dtype} need a file of ${needed} bytes, got ${size}. Copy or make it again.`,
    );
  }
  return { dtype, tokens };
}

const isLittleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** Writes ids as the bytes of a shard. */
export function encodeTokens(tokens: ArrayLike<number>, dtype: TokenDtype): Uint8Array {
  const array = dtype === "uint16" ? Uint16Array.from(tokens) : Uint32Array.from(tokens);
  return littleEndian(new Uint8Array(array.buffer), tokenBytes(dtype));
}

/** Reads the ids in bytes of a shard; the bytes are taken over. */
export function decodeTokens(bytes: Uint8Array, dtype: TokenDtype): Uint16Array | Uint32Array {
  const own = littleEndian(bytes.byteOffset % 4 === 0 ? bytes : bytes.slice(), tokenBytes(dtype));
  return dtype === "uint16"
    ? new Uint16Array(own.buffer, own.byteOffset, own.length / 2)
    : new Uint32Array(own.buffer, own.byteOffset, own.length / 4);
}

/** Turns each group of `size` bytes round where the machine is big endian. */
function littleEndian(bytes: Uint8Array, size: number): Uint8Array {
  if (!isLittleEndian) for (let at = 0; at < bytes.length; at += size) bytes.subarray(at, at + size).reverse();
  return bytes;
}
