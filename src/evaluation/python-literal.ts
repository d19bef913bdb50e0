/** Python literals (ast.literal_eval) as far as RACE's `problems` need them: lists, dictionaries, strings, numbers. */
import { FormatError } from "../errors.ts";

/** What a literal can be; tuples are read as lists. */
export type PythonLiteral =
  | string
  | number
  | boolean
  | null
  | readonly PythonLiteral[]
  | { readonly [key: string]: PythonLiteral };

/** Nesting of RACE's literals is 3; a hostile file must not overflow the stack. */
const MAX_DEPTH = 32;

const escapes: Readonly<Record<string, string>> = {
  n: "\n",
  t: "\t",
  r: "\r",
  a: "\x07",
  b: "\b",
  f: "\f",
  v: "\v",
  "\n": "", // a line that goes on
};

/** Reads a literal. @throws {FormatError} that names `where` and the place. */
export function parsePythonLiteral(text: string, where: string): PythonLiteral {
  let at = 0;

  function refuse(wanted: string): never {
    const found = at < text.length ? JSON.stringify(text.slice(at, at + 12)) : "the end";
    throw new FormatError(`${where}: ${wanted} was required at character ${at}, got ${found}. Is the file damaged?`);
  }

  function take(pattern: RegExp): string | undefined {
    pattern.lastIndex = at;
    const [match] = pattern.exec(text) ?? [];
    at += match?.length ?? 0;
    return match;
  }

  /** Items up to `end`, with an optional comma after the last. */
  function items(end: RegExp, readItem: () => void): void {
    for (;;) {
      if (take(end)) return;
      readItem();
      take(/\s*/y);
      if (take(end)) return;
      if (!take(/,/y)) refuse("a comma or a closing bracket");
      take(/\s*/y);
    }
  }

  function string(): string {
    const quote = take(/'''|"""|'|"/y)!;
    let result = "";
    while (!text.startsWith(quote, at)) {
      if (at >= text.length || (quote.length === 1 && text[at] === "\n")) refuse(`a closing ${quote}`);
      result += text[at] === "\\" ? escape() : text[at++]!;
    }
    at += quote.length;
    return result;
  }

  function escape(): string {
    const numeric = take(/\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|[0-7]{1,3})/y);
    if (numeric !== undefined) {
      const code = /^\\[xuU]/.test(numeric)
        ? Number.parseInt(numeric.slice(2), 16)
        : Number.parseInt(numeric.slice(1), 8);
      if (code > 0x10ffff) refuse("a code point");
      return String.fromCodePoint(code);
    }
    at++;
    const character = text[at++] ?? refuse("an escaped character");
    if ("\\'\"".includes(character)) return character;
    return escapes[character] ?? `\\${character}`; // Python keeps the backslash of an unknown escape
  }

  function value(depth: number): PythonLiteral {
    if (depth > MAX_DEPTH) refuse(`at most ${MAX_DEPTH} levels of brackets`);
    take(/\s*/y);
    const start = text[at];
    if (start === "'" || start === '"') return string();
    if (take(/[[(]\s*/y)) {
      const list: PythonLiteral[] = [];
      items(start === "[" ? /\]/y : /\)/y, () => void list.push(value(depth + 1)));
      return list;
    }
    if (take(/\{\s*/y)) {
      const entries: [string, PythonLiteral][] = [];
      items(/\}/y, () => {
        const key = value(depth + 1);
        if (typeof key !== "string") refuse("a text as key");
        if (!take(/\s*:/y)) refuse("a colon");
        entries.push([key, value(depth + 1)]);
      });
      return Object.fromEntries(entries);
    }
    const word = take(/True|False|None|[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?)/y) ?? refuse("a value");
    const constants: Readonly<Record<string, boolean | null>> = { True: true, False: false, None: null };
    return word in constants ? constants[word]! : Number(word);
  }

  const result = value(0);
  take(/\s*/y);
  if (at < text.length) refuse("the end");
  return result;
}
