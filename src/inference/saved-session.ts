/** A session as bytes that describe themselves. */
import { FormatError } from "../errors.ts";

// A saved session, little-endian: magic (8 bytes), version, length of the fingerprint, number of tokens, 0 (u32 each),
// length of the cache (u64), fingerprint (UTF-8, padded to 4), tokens (u32 each), cache (padded to 4), checksum (u32).
const magic = "MLMSESS\n";
const version = 1;
const headerBytes = 32;

/** Tokens and cache as bytes. @param fingerprint of the model and its weights. */
export function packSession(fingerprint: string, tokens: readonly number[], cache: Uint8Array): Uint8Array {
  const name = new TextEncoder().encode(fingerprint);
  const tokensAt = headerBytes + padded(name.length);
  const cacheAt = tokensAt + 4 * tokens.length;
  const checksumAt = cacheAt + padded(cache.length);
  const bytes = new Uint8Array(checksumAt + 4);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(magic), 0);
  view.setUint32(8, version, true);
  view.setUint32(12, name.length, true);
  view.setUint32(16, tokens.length, true);
  view.setBigUint64(24, BigInt(cache.length), true);
  bytes.set(name, headerBytes);
  for (const [i, token] of tokens.entries()) view.setUint32(tokensAt + 4 * i, token, true);
  bytes.set(cache, cacheAt);
  view.setUint32(checksumAt, checksum(bytes.subarray(0, checksumAt)), true);
  return bytes;
}

/** @throws {FormatError} for damaged bytes and those of another model. */
export function unpackSession(input: Uint8Array, fingerprint: string): { tokens: number[]; cache: Uint8Array } {
  if (!(input instanceof Uint8Array)) throw new TypeError("restore: expected the Uint8Array that save gave.");
  // The checksum reads whole words, which need an aligned start.
  const bytes = input.byteOffset % 4 === 0 ? input : input.slice();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < headerBytes + 4 || new TextDecoder("latin1").decode(bytes.subarray(0, 8)) !== magic) {
    throw new FormatError(
      `saved session: expected the bytes that save gave, got ${bytes.length} bytes of another kind.`,
    );
  }
  if (view.getUint32(8, true) !== version) {
    throw new FormatError(`saved session: expected version ${version}, got ${view.getUint32(8, true)}. Save it again.`);
  }
  const nameLength = view.getUint32(12, true);
  const tokenCount = view.getUint32(16, true);
  const cacheLength = Number(view.getBigUint64(24, true));
  const tokensAt = headerBytes + padded(nameLength);
  const cacheAt = tokensAt + 4 * tokenCount;
  const checksumAt = cacheAt + padded(cacheLength);
  if (bytes.length !== checksumAt + 4) {
    throw new FormatError(
      `saved session: needs ${checksumAt + 4} bytes, got ${bytes.length}. It was cut short or damaged; save it again.`,
    );
  }
  if (view.getUint32(checksumAt, true) !== checksum(bytes.subarray(0, checksumAt))) {
    throw new FormatError("saved session: the checksum does not match, so the bytes are damaged. Save it again.");
  }
  const name = new TextDecoder().decode(bytes.subarray(headerBytes, headerBytes + nameLength));
  if (name !== fingerprint) {
    throw new FormatError(
      `saved session: belongs to the model "${name}", this one is "${fingerprint}". Load that model, or feed the text again.`,
    );
  }
  const tokens = Array.from({ length: tokenCount }, (_, i) => view.getUint32(tokensAt + 4 * i, true));
  return { tokens, cache: bytes.slice(cacheAt, cacheAt + cacheLength) };
}

function padded(length: number): number {
  return Math.ceil(length / 4) * 4;
}

/** FNV-1a over 32-bit words: each step is a bijection, so a change within one word always shows. */
function checksum(bytes: Uint8Array): number {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  let hash = 0x811c9dc5;
  for (const word of words) hash = Math.imul(hash ^ word, 0x01000193);
  return hash >>> 0;
}
