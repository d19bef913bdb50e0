/**
 * GPT-2's byte-level alphabet (Radford et al. 2019): every byte is written as one printable character, so that a
 * vocabulary can be kept as text. `Ġ` is a space, `Ċ` a newline.
 */
export const byteCharacters: readonly string[] = makeByteCharacters();

const byteOfCharacter = new Map(byteCharacters.map((character, byte) => [character, byte]));

/** Gives the bytes that a vocabulary entry stands for; its own UTF-8 if a character is outside the alphabet. */
export function byteLevelBytes(entry: string): Uint8Array {
  const bytes: number[] = [];
  for (const character of entry) {
    const byte = byteOfCharacter.get(character);
    if (byte === undefined) return new TextEncoder().encode(entry);
    bytes.push(byte);
  }
  return Uint8Array.from(bytes);
}

function makeByteCharacters(): string[] {
  let extra = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrintable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    return String.fromCharCode(isPrintable ? byte : extra++);
  });
}

/** GPT-2's words. `\s` here is Unicode's White_Space; JavaScript's `\s` counts U+FEFF and forgets U+0085. */
export const GPT2_WORDS = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/** Llama 3's words (tokenizer.json of meta-llama/Meta-Llama-3-8B). */
export const LLAMA3_WORDS =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

/** Qwen 2's words: Llama 3's with single digits. */
export const QWEN2_WORDS: string = LLAMA3_WORDS.replace("{1,3}", "");

/**
 * Translates a pattern from the dialect of Hugging Face's tokenizers (Oniguruma) into JavaScript's. It knows what pre-tokenizers use:
 * Unicode's `\s` and `\d`, and case-insensitive groups `(?i:…)` of plain text.
 */
export function translatePattern(pattern: string): RegExp {
  const translated = pattern
    .replace(/\(\?i:([^()[\]\\]*)\)/g, (_, group: string) => `(?:${group.replace(/[a-z]/gi, eitherCase)})`)
    .replace(/\\(.)/gs, (escape, letter: string) => {
      if (letter === "s") return "\\p{White_Space}";
      if (letter === "S") return "\\P{White_Space}";
      if (letter === "d") return "\\p{Nd}";
      if (letter === "D") return "\\P{Nd}";
      // Escapes that the u flag refuses.
      return /[\p{P}\p{S}]/u.test(letter) && !/[\^$\\.*+?()[\]{}|/-]/.test(letter) ? letter : escape;
    })
    .replace(/\\p\{(Han|Hiragana|Katakana|Hangul|Latin|Cyrillic|Arabic|Thai)\}/g, "\\p{Script=$1}");
  return new RegExp(translated, "gu");
}

/** Both cases of an ASCII letter, and the one other character that folds to it. */
function eitherCase(letter: string): string {
  const lower = letter.toLowerCase();
  const other = lower === "s" ? "\u017F" : lower === "k" ? "\u212A" : "";
  return `[${lower}${lower.toUpperCase()}${other}]`;
}
