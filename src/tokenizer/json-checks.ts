/** Checks of parsed JSON whose shape nobody has promised. `name` is the file, `where` the place in it, for messages. */
import { FormatError } from "../errors.ts";

/** A parsed JSON object. */
export type Json = Readonly<Record<string, unknown>>;

/** Whether a parsed value is an object, neither null nor a list. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Gives the value back as an object. @throws {FormatError} if it is none. */
export function record(value: unknown, where: string, name: string): Json {
  if (!isRecord(value)) throw new FormatError(`${name}: ${where} must be an object, got ${show(value)}.`);
  return value;
}

/** Gives the value back as a list. @throws {FormatError} if it is none. */
export function list(value: unknown, where: string, name: string): unknown[] {
  if (!Array.isArray(value)) throw new FormatError(`${name}: ${where} must hold a list, got ${show(value)}.`);
  return value;
}

/** Gives the value back as a string. @throws {FormatError} if it is none. */
export function text(value: unknown, where: string, name: string): string {
  if (typeof value !== "string") throw new FormatError(`${name}: ${where} must be a string, got ${show(value)}.`);
  return value;
}

/** A value for a message, cut short; of lists and objects only that they are one, since they may be nested without end. */
export function show(value: unknown): string {
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "a list" : "an object";
  const shown = JSON.stringify(value) ?? "nothing";
  return shown.length > 60 ? `${shown.slice(0, 57)}…` : shown;
}

/** The error for a part of the file that we would have to leave out. */
export function unsupported(where: string, value: unknown, name: string): FormatError {
  return new FormatError(`${name}: ${where} of type ${show(value)} is not supported.`);
}
