/**
 * Checks of parsed JSON that name the path of what is wrong: `optimizer.betas[1]`. A shape is a function from a value and
 * its path to the checked value; shapes of objects and lists are made of others.
 */
import { nearestName } from "../../errors.ts";
import { describe, isObject } from "../../formats/json.ts";

/** @throws {ShapeMismatch} naming the path. */
export type Shape<T> = (value: unknown, path: string) => T;

/** What is wrong, without the file's name, which the caller puts in front. */
export class ShapeMismatch extends Error {
  override readonly name = "ShapeMismatch";
}

type NumberRule = {
  readonly isWhole?: boolean;
  readonly min?: number;
  readonly above?: number;
  readonly max?: number;
  readonly below?: number;
};

export function number(rule: NumberRule = {}): Shape<number> {
  const { isWhole = false, min = -Infinity, above = -Infinity, max = Infinity, below = Infinity } = rule;
  const lower = min > -Infinity ? ` of ${min} or more` : above > -Infinity ? ` above ${above}` : "";
  const limit = max < Infinity ? ` at most ${max}` : below < Infinity ? ` below ${below}` : "";
  const upper = limit === "" || lower === "" ? limit : `,${limit}`;
  const wanted = `a ${isWhole ? "whole " : ""}number${lower}${upper}`;
  return (value, path) => {
    const fits =
      typeof value === "number" &&
      (isWhole ? Number.isSafeInteger(value) : Number.isFinite(value)) &&
      value >= min &&
      value > above &&
      value <= max &&
      value < below;
    return fits ? value : refuse(path, wanted, value);
  };
}

export function flag(value: unknown, path: string): boolean {
  return typeof value === "boolean" ? value : refuse(path, "true or false", value);
}

export function text(value: unknown, path: string): string {
  return typeof value === "string" && value !== "" ? value : refuse(path, "a text", value);
}

export function choice<const T extends string>(...names: readonly T[]): Shape<T> {
  return (value, path) => {
    const found = names.find((name) => name === value);
    if (found !== undefined) return found;
    const nearest = typeof value === "string" ? nearestName(value, names) : undefined;
    const hint = nearest === undefined ? "" : ` Did you mean "${nearest}"?`;
    throw new ShapeMismatch(`${path}: expected one of ${names.join(", ")}, got ${describe(value)}.${hint}`);
  };
}

export function list<T>(item: Shape<T>): Shape<readonly T[]> {
  return (value, path) =>
    Array.isArray(value) ? value.map((entry, i) => item(entry, `${path}[${i}]`)) : refuse(path, "a list", value);
}

export function pair<T>(item: Shape<T>): Shape<readonly [T, T]> {
  return (value, path) =>
    Array.isArray(value) && value.length === 2
      ? [item(value[0], `${path}[0]`), item(value[1], `${path}[1]`)]
      : refuse(path, "a list of 2", value);
}

export function orNull<T>(shape: Shape<T>): Shape<T | null> {
  return (value, path) => (value === null ? null : shape(value, path));
}

/** A key that may be absent, and what it then is. */
export type Optional<T> = { readonly shape: Shape<T>; readonly fallback: T };

export function optional<T>(shape: Shape<T>): Optional<T | undefined> {
  return { shape, fallback: undefined };
}

export function withDefault<T>(shape: Shape<T>, fallback: T): Optional<T> {
  return { shape, fallback };
}

/** An object whose keys all have defaults, which may be absent as a whole. */
export function section<const F extends Fields>(fields: F): Optional<CheckedFields<F>> {
  const shape = object(fields);
  return { shape, fallback: shape({}, "") };
}

export type Field = Shape<unknown> | Optional<unknown>;
export type Fields = Readonly<Record<string, Field>>;
export type CheckedFields<F extends Fields> = {
  readonly [K in keyof F]: F[K] extends Optional<infer T> ? T : F[K] extends Shape<infer T> ? T : never;
};

/** An object with these keys and no others. */
export function object<const F extends Fields>(fields: F): Shape<CheckedFields<F>> {
  const known = Object.keys(fields);
  return (value, path) => {
    if (!isObject(value)) return refuse(path === "" ? "the file" : path, "an object", value);
    const inside = (key: string): string => (path === "" ? key : `${path}.${key}`);
    for (const key of Object.keys(value)) {
      if (known.includes(key)) continue;
      const nearest = nearestName(key, known);
      const hint =
        nearest === undefined
          ? `Known${path === "" ? "" : ` in ${path}`}: ${known.join(", ")}.`
          : `Did you mean "${inside(nearest)}"?`;
      throw new ShapeMismatch(`unknown key "${inside(key)}". ${hint}`);
    }
    const checked = Object.entries(fields).map(([key, field]) => {
      const given = value[key];
      if (typeof field === "function") {
        if (given === undefined) throw new ShapeMismatch(`${inside(key)}: required, but missing.`);
        return [key, field(given, inside(key))];
      }
      return [key, given === undefined ? field.fallback : field.shape(given, inside(key))];
    });
    return Object.fromEntries(checked) as CheckedFields<F>;
  };
}

/** The first shape for values of the first type, else the second: `"125M"` or `{ "dim": 576, … }`. */
export function either<A, B>(isFirst: (value: unknown) => boolean, first: Shape<A>, second: Shape<B>): Shape<A | B> {
  return (value, path) => (isFirst(value) ? first(value, path) : second(value, path));
}

function refuse(path: string, wanted: string, value: unknown): never {
  throw new ShapeMismatch(`${path}: expected ${wanted}, got ${describe(value)}.`);
}
