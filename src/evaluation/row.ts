/** A row of a data file, read by field name. Names in one call are alternatives: the first that the row has counts. */
import { FormatError, isObject } from "../errors.ts";

/** A row, read with checks. @throws {FormatError} that names row and field where a field is not what was asked for. */
export type Row = {
  /** File and line, for messages. */
  readonly where: string;
  readonly fields: Readonly<Record<string, unknown>>;
  /** Whether the row has one of these fields. */
  has(...names: string[]): boolean;
  text(...names: string[]): string;
  texts(...names: string[]): string[];
  /** Reads a whole number, or its digits as text. */
  integer(...names: string[]): number;
  /** Reads an object's fields as a row of their own. */
  row(name: string): Row;
  /** Reads a list of objects. */
  rows(name: string): Row[];
};

/** Makes a row. @param where it stands, for messages. */
export function createRow(fields: Readonly<Record<string, unknown>>, where: string): Row {
  function find(wanted: string, names: readonly string[]): { name: string; value: unknown } {
    const name = names.find((candidate) => isThere(fields[candidate]));
    if (name !== undefined) return { name, value: fields[name] };
    throw new FormatError(
      `${where}: the field ${names.map((name) => JSON.stringify(name)).join(" or ")} (${wanted}) was required, got ${Object.keys(fields).join(", ") || "no fields"}. Is it the file of another task?`,
    );
  }

  function refuse(name: string, wanted: string, value: unknown): never {
    throw new FormatError(`${where}: the field "${name}" must be ${wanted}, got ${shown(value)}.`);
  }

  const row: Row = {
    where,
    fields,
    has: (...names) => names.some((name) => isThere(fields[name])),
    text(...names) {
      const { name, value } = find("text", names);
      return typeof value === "string" ? value : refuse(name, "text", value);
    },
    texts(...names) {
      const { name, value } = find("a list of texts", names);
      if (Array.isArray(value) && value.every((item) => typeof item === "string")) return value as string[];
      return refuse(name, "a list of texts", value);
    },
    integer(...names) {
      const { name, value } = find("a whole number", names);
      const number = typeof value === "string" && /^\d+$/.test(value) ? Number(value) : value;
      if (typeof number === "bigint") return Number(number);
      return Number.isSafeInteger(number) ? (number as number) : refuse(name, "a whole number", value);
    },
    row(name) {
      const { value } = find("an object", [name]);
      return isObject(value) ? createRow(value, `${where}, ${name}`) : refuse(name, "an object", value);
    },
    rows(name) {
      const { value } = find("a list of objects", [name]);
      if (!Array.isArray(value) || !value.every(isObject)) return refuse(name, "a list of objects", value);
      return value.map((item, i) => createRow(item, `${where}, ${name}[${i}]`));
    },
  };
  return row;
}

function isThere(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`;
  if (isObject(value)) return "an object";
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}
