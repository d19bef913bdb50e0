/** JSON from files that may be damaged or hostile: strict UTF-8, and a FormatError that names the file. */
import { describe, FormatError, isObject } from "../errors.ts";

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
