/** JSON from files that may be damaged or hostile: strict UTF-8, and a FormatError that names the file. */
import { FormatError } from "../errors.ts";

/** Parses a JSON object. @throws {FormatError} naming `file` if the bytes are none. */
export function parseJsonObject(bytes: Uint8Array, file: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(decodeUtf8(bytes));
  } catch (cause) {
    throw new FormatError(`${file}: valid JSON was expected (${(cause as Error).message}).`, { cause });
  }
  if (!isObject(value)) throw new FormatError(`${file}: a JSON object was expected, got ${describe(value)}.`);
  return value;
}

/** Writes JSON as a file holds it: indented, with a line break at its end. */
export function printJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** Decodes strict UTF-8. @throws {TypeError} for anything else. */
export function decodeUtf8(bytes: Uint8Array): string {
  return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
}

/** Whether a parsed value is an object, neither null nor a list. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Writes a value for a message, cut short. */
export function describe(value: unknown): string {
  // JSON.parse takes any depth, JSON.stringify recurses: a hostile file must not get a stack overflow out of a message.
  if (Array.isArray(value) && value.some(isNested)) return `an array of ${value.length} values`;
  if (isObject(value) && Object.values(value).some(isNested)) return "an object";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

function isNested(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}
