/** Python's string functions where JavaScript's differ, because the harness's prompts and scores go by them. */

/** The characters of str.isspace(), as the inside of a character class. JavaScript's \s lacks U+001C to U+001F and U+0085, and has U+FEFF. */
export const space = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";

const leadingSpace = new RegExp(`^[${space}]+`);
const trailingSpace = new RegExp(`[${space}]+$`);
const spaces = new RegExp(`[${space}]+`);

/** Takes away white space at both ends: str.strip(). */
export function strip(text: string): string {
  return stripStart(text).replace(trailingSpace, "");
}

/** Takes away white space at the start: str.lstrip(). */
export function stripStart(text: string): string {
  return text.replace(leadingSpace, "");
}

/** Splits at white space, and keeps empty strings at the ends: re.split(r"\s+", text). */
export function splitSpaces(text: string): string[] {
  return text.split(spaces);
}

/** Counts code points, not UTF-16 units: len(text). */
export function length(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}

/** The characters of string.punctuation, as the inside of a character class. */
export const punctuation = "!-\\/:-@\\[-`{-~";

/** Puts the first character in title case, all others in lower case: str.capitalize(). */
export function capitalize(text: string): string {
  const [first] = text;
  if (first === undefined) return "";
  // Of the whole, since a final sigma goes by what stands before it.
  return titleCase(first) + text.toLowerCase().slice(first.toLowerCase().length);
}

/** Titlecase_Mapping of Unicode, which JavaScript has not: where it isn't the upper case. */
function titleCase(character: string): string {
  const digraph = "ǄǅǆǇǈǉǊǋǌǱǲǳ".indexOf(character);
  if (digraph >= 0) return "ǅǈǋǲ"[Math.floor(digraph / 3)]!;
  if (/[ა-ჺჽ-ჿ]/.test(character)) return character; // Georgian has no title case
  const upper = character.toUpperCase();
  // An iota below the letter stays below it.
  if (/[\u1f80-\u1fff]/.test(character) && upper.endsWith("Ι")) {
    const title = `${upper.slice(0, -1)}\u0345`;
    return title.length === 2 ? title.normalize("NFC") : title;
  }
  const [first, ...rest] = upper;
  return first! + (character === "ŉ" ? rest.join("") : rest.join("").toLowerCase());
}

/** Finds the first largest value, where a NaN wins over everything: numpy.argmax. */
export function argmax(values: readonly number[]): number {
  let best = 0;
  for (const [i, value] of values.entries()) {
    if (Number.isNaN(value)) return i;
    if (value > values[best]!) best = i;
  }
  return best;
}
