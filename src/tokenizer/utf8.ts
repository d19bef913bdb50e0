/**
 * UTF-8 in pieces. A token may end in the middle of a character, so a stream of tokens is decoded byte by byte and a
 * character is handed out when it is complete. Follows the Unicode standard's "maximal subpart" practice, as TextDecoder.
 */
export type Utf8Stream = {
  /** Gives the text that these bytes complete. */
  push(bytes: ArrayLike<number>): string;
  /** Gives what is left: U+FFFD if the bytes ended inside a character, else "". */
  end(): string;
};

/**
 * Makes a stream that decodes bytes as they come.
 * @param isPerByte a broken sequence becomes one U+FFFD for each of its bytes, as in SentencePiece; otherwise one in all,
 * as in TextDecoder and in Hugging Face's byte-level decoder.
 */
export function createUtf8Stream(isPerByte = false): Utf8Stream {
  let value = 0; // bits of the open character
  let seen = 0; // its bytes so far
  let missing = 0; // its bytes to come
  let low = 0x80; // bounds of the next continuation byte (Unicode 16, table 3-7)
  let high = 0xbf;

  function broken(): string {
    const text = "\uFFFD".repeat(isPerByte ? seen : Math.min(seen, 1));
    seen = missing = 0;
    return text;
  }

  function push(bytes: ArrayLike<number>): string {
    let text = "";
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i]!;
      if (missing > 0) {
        if (byte >= low && byte <= high) {
          value = (value << 6) | (byte & 0x3f);
          low = 0x80;
          high = 0xbf;
          seen++;
          if (--missing === 0) {
            text += String.fromCodePoint(value);
            seen = 0;
          }
          continue;
        }
        text += broken();
      }
      if (byte < 0x80) {
        text += String.fromCharCode(byte);
      } else if (byte < 0xc2 || byte > 0xf4) {
        text += "\uFFFD";
      } else {
        missing = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
        value = byte & (0x3f >> missing);
        seen = 1;
        low = byte === 0xe0 ? 0xa0 : byte === 0xf0 ? 0x90 : 0x80;
        high = byte === 0xed ? 0x9f : byte === 0xf4 ? 0x8f : 0xbf;
      }
    }
    return text;
  }

  return { push, end: broken };
}

/** Replaces lone surrogates by U+FFFD, as TextEncoder does. */
export function toWellFormed(text: string): string {
  return text.replace(/\p{Surrogate}/gu, "\uFFFD");
}
