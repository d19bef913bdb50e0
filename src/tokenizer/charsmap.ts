/**
 * SentencePiece's precompiled normalization rules, such as nmt_nfkc: a double-array trie (Aoe 1989, as in darts-clone)
 * from UTF-8 prefixes to offsets of zero-ended replacements. The longest prefix wins.
 */
import { FormatError } from "../errors.ts";

/** Makes a function that applies the rules in `blob` to a text. @throws {FormatError} if they point outside of it. */
export function createCharsmap(blob: Uint8Array, name: string): (text: string) => string {
  const view = new DataView(blob.buffer, blob.byteOffset, blob.byteLength);
  const trieBytes = blob.length >= 4 ? view.getUint32(0, true) : 0;
  if (trieBytes === 0 || trieBytes % 4 !== 0 || trieBytes > blob.length - 4) {
    throw new FormatError(`${name}: precompiled_charsmap has ${blob.length} bytes, which can't hold its trie.`);
  }
  const units = Uint32Array.from({ length: trieBytes / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
  const replacements = blob.subarray(4 + trieBytes);
  const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

  function replacementAt(offset: number): string {
    const end = replacements.indexOf(0, offset);
    if (offset >= replacements.length || end < 0) {
      throw new FormatError(`${name}: precompiled_charsmap points outside its replacements (${offset}).`);
    }
    return utf8.decode(replacements.subarray(offset, end));
  }

  return (text) => {
    const bytes = new TextEncoder().encode(text);
    const pieces: string[] = [];
    let copied = 0; // bytes before this are in `pieces`
    let at = 0;
    while (at < bytes.length) {
      let node = childBase(units[0]!);
      let length = 0;
      let offset = 0;
      for (let i = at; i < bytes.length; i++) {
        node ^= bytes[i]!;
        const unit = units[node];
        if (unit === undefined || (unit & 0x8000_00ff) !== bytes[i]) break; // a negative number for a leaf
        node ^= childBase(unit);
        if ((unit >>> 8) & 1) {
          length = i + 1 - at;
          offset = (units[node] ?? 0) & 0x7fff_ffff;
        }
      }
      if (length > 0) {
        if (copied < at) pieces.push(utf8.decode(bytes.subarray(copied, at)));
        pieces.push(replacementAt(offset));
        at += length;
        copied = at;
      } else {
        const lead = bytes[at]!;
        at += lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
      }
    }
    if (copied < bytes.length) pieces.push(utf8.decode(bytes.subarray(copied)));
    return pieces.join("");
  };
}

function childBase(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}
