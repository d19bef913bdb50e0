/**
 * Options and files of settings, each key described once: a schema (valibot) says what a key may hold and what it is when it is left
 * out; `check` and `checkFile` refuse the rest by path and fill in; the build makes a JSON Schema of a recipe's for editors.
 */
import * as v from "valibot";
import { describe, FormatError, isObject, nearestName } from "./errors.ts";

/** What may be given, and what becomes of it: with defaults filled in. */
export type Schema<Given, Checked = Given> = v.GenericSchema<Given, Checked>;

/** Options with nothing left open. */
export type Filled<Given> = { readonly [K in keyof Given]-?: Exclude<Given[K], undefined> };

/** A schema for each key of a documented type, no more and no fewer. */
export type Entries<Given, Checked = Given> = {
  readonly [K in keyof Given]-?: Schema<Given[K], K extends keyof Checked ? Checked[K] : unknown>;
};

/** A rule's error, as its whole sentence after the path. */
type Message = (issue: { readonly input: unknown }) => string;

/** Makes a schema of an object with these keys and no others. */
export function object<Given, Checked = Given>(entries: Entries<Given, Checked>): Schema<Given, Checked> {
  const isRecord = v.custom<object>(isObject, expected("an object")); // valibot takes a list for an object
  return v.pipe(isRecord, v.strictObject(entries)) as unknown as Schema<Given, Checked>;
}

/** Makes a schema of an object out of a file, of which nothing is known. */
export function jsonObject<Checked>(entries: Entries<Unknown<Checked>, Checked>): Schema<unknown, Checked> {
  return object<Unknown<Checked>, Checked>(entries);
}

/** An object with these keys, of which nothing else is known. */
export type Unknown<Checked> = { readonly [K in keyof Checked]: unknown };

/** Makes a schema of an object out of a file that can be left out, as can each of its keys. */
export function section<Checked>(entries: Entries<Unknown<Checked>, Checked>): Schema<unknown, Checked> {
  return withDefault(jsonObject<Checked>(entries), {});
}

/** A key that may be left out. */
export function optional<Given, Checked>(
  schema: Schema<Given, Checked>,
): Schema<Given | undefined, Checked | undefined> {
  return v.optional(schema);
}

/** A key that may be left out, and then is as if `fallback` had been given. */
export function withDefault<Given, Checked>(
  schema: Schema<Given, Checked>,
  fallback: NoInfer<Given>,
): Schema<Given | undefined, Checked> {
  return v.optional(schema, fallback as never) as unknown as Schema<Given | undefined, Checked>;
}

/** Null, or what the schema says. */
export function orNull<Given, Checked>(schema: Schema<Given, Checked>): Schema<Given | null, Checked | null> {
  return v.nullable(schema);
}

type NumberRule = {
  readonly isWhole?: boolean;
  readonly min?: number;
  readonly above?: number;
  readonly max?: number;
  readonly below?: number;
};

/** Makes a schema of finite numbers. @param what for messages, when it says more than the rule. */
export function number(rule: NumberRule = {}, what: string = describeNumber(rule)): Schema<number> {
  const { isWhole = false, min, above, max, below } = rule;
  const message = expected(what);
  const rules = [
    isWhole ? v.safeInteger(message) : v.finite(message),
    ...(min === undefined ? [] : [v.minValue<number, number, Message>(min, message)]),
    ...(above === undefined ? [] : [v.gtValue<number, number, Message>(above, message)]),
    ...(max === undefined ? [] : [v.maxValue<number, number, Message>(max, message)]),
    ...(below === undefined ? [] : [v.ltValue<number, number, Message>(below, message)]),
  ];
  return v.pipe(v.number(message), ...rules) as Schema<number>;
}

function describeNumber({ isWhole = false, min, above, max, below }: NumberRule): string {
  const kind = isWhole ? "a whole number" : "a number";
  if (min !== undefined && max !== undefined) return `${kind} from ${min} to ${max}`;
  const lower = min !== undefined ? ` of ${min} or more` : above !== undefined ? ` above ${above}` : "";
  const upper = max !== undefined ? ` up to ${max}` : below !== undefined ? ` below ${below}` : "";
  return `${kind}${lower}${lower && upper && ","}${upper}`;
}

/** A whole number from 1. */
export const count: Schema<number> = number({ isWhole: true, min: 1 });
/** A whole number from 1, or Infinity: no limit. */
export const countOrInfinity: Schema<number> = v.union([count, v.literal(Infinity)]);
/** A whole number from 0. */
export const wholeOrZero: Schema<number> = number({ isWhole: true, min: 0 });
/** A finite number above 0. */
export const positive: Schema<number> = number({ above: 0 });
/** True or false. */
export const flag: Schema<boolean> = v.boolean(expected("true or false"));
/** Any string. */
export const string: Schema<string> = v.string(expected("a string"));
/** A string that is not empty. */
export const text: Schema<string> = v.pipe(
  v.string(expected("a string")),
  v.nonEmpty(expected("a string that is not empty")),
);

/** What those who use it check. */
export const anything: Schema<unknown> = v.unknown();
/** Threads of a device. */
export const threads: Schema<number> = number({ isWhole: true, min: 1, max: 64 });

/** Makes a schema of one of some names. */
export function choice<const T extends string>(...names: readonly T[]): Schema<T> {
  return v.picklist(names, ({ input }) => {
    const nearest = typeof input === "string" ? nearestName(input, names) : undefined;
    const hint = nearest === undefined ? "" : ` Did you mean "${nearest}"?`;
    return `expected one of ${names.join(", ")}, got ${write(input)}.${hint}`;
  });
}

/** The name of a device. */
export const device: Schema<"wasm" | "reference"> = choice("wasm", "reference");

/** Makes a schema of a list of any length. */
export function list<Given, Checked>(item: Schema<Given, Checked>): Schema<readonly Given[], readonly Checked[]> {
  return v.array(item, expected("a list"));
}

/** Makes a schema of a list, in whose place one string may stand. */
export function oneOrMore<T>(item: Schema<T>): Schema<string | readonly T[], readonly T[]> {
  const isEither = (value: unknown): boolean => typeof value === "string" || Array.isArray(value);
  return v.pipe(
    thing<string | readonly T[]>("a string or a list", isEither),
    v.transform((given): readonly unknown[] => (typeof given === "string" ? [given] : given)),
    list<unknown, T>(item),
  );
}

/** Makes a schema of a list of two. */
export function pair<T>(item: Schema<T>): Schema<readonly [T, T]> {
  const message = expected("a list of 2");
  return v.pipe(v.array(item, message), v.length(2, message)) as unknown as Schema<readonly [T, T]>;
}

/** Makes a schema of what either describes, the second an object. An error is that of the one which the value resembles. */
export function either<A, B, C, D>(first: Schema<A, C>, second: Schema<B, D>): Schema<A | B, C | D> {
  return v.union([first, second]);
}

/** Makes a schema of something else than JSON, known by `isOne`. */
export function thing<T>(what: string, isOne: (value: unknown) => boolean): Schema<T> {
  return v.custom<T>(isOne, expected(what));
}

/** Makes a schema of a function that is called back. */
export function callback<T>(): Schema<T> {
  return thing<T>("a function", (value) => typeof value === "function");
}

/** What stops long work. */
export const signal: Schema<AbortSignal> = thing(
  "an AbortSignal",
  (value) => isObject(value) && typeof value["throwIfAborted"] === "function",
);

/** Makes a schema of an object with methods of its own, which those who call them check. */
export function instance<T>(what: string): Schema<T> {
  return thing<T>(what, isObject);
}

/** Ends a check by a rule between keys. @param key the path of the one that is off. */
export type Refuse = (key: string, why: string) => never;

/** Carries the key as its cause, up to `derived`. */
class Refusal extends Error {}

/** Makes something else of what was checked, by rules between keys. */
export function derived<Given, Checked, Derived>(
  schema: Schema<Given, Checked>,
  derive: (checked: Checked, refuse: Refuse) => Derived,
): Schema<Given, Derived> {
  return v.pipe(
    schema,
    v.rawTransform<Checked, Derived>(({ dataset: { value }, addIssue, NEVER }) => {
      try {
        return derive(value, (key, why) => {
          throw new Refusal(why, { cause: key });
        });
      } catch (error) {
        if (!(error instanceof Refusal)) throw error;
        const path = [{ key: error.cause }] as unknown as [v.IssuePathItem];
        addIssue({ message: error.message, path });
        return NEVER;
      }
    }),
  );
}

/**
 * Checks options, and fills in what was left out.
 * @param where the function or option they are for: `generate`, `optimizer`.
 * @throws {TypeError} for an unknown key or another type. @throws {RangeError} for a value out of range.
 */
export function check<Checked>(where: string, schema: Schema<unknown, Checked>, options: unknown): Checked {
  const result = v.safeParse(schema, options);
  if (result.success) return result.output;
  const { path, issue, isUnknown } = firstProblem(result.issues);
  if (isUnknown) throw new TypeError(`${where}: unknown option "${path}". ${hintFor(path, schema)}`);
  const place = path === "" || path.startsWith("[") ? `${where}${path}` : `${where}.${path}`;
  const sameType = { picklist: "string", number: "number" }[issue.type]; // a wrong name, NaN
  const isType = issue.kind === "schema" && typeof issue.input !== sameType;
  throw new (isType ? TypeError : RangeError)(`${place}: ${issue.message}`);
}

/**
 * Checks what a file of JSON holds, and fills in what was left out.
 * @throws {FormatError} naming the file and the path of what is wrong: `recipe.json: optimizer.betas[1]: …`.
 */
export function checkFile<Checked>(file: string, schema: Schema<unknown, Checked>, json: unknown): Checked {
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const { path, issue, isUnknown } = firstProblem(result.issues);
  if (isUnknown) throw new FormatError(`${file}: unknown key "${path}". ${hintFor(path, schema)}`);
  throw new FormatError(`${file}: ${path === "" ? "the file" : path}: ${issue.message}`);
}

type Issue = v.BaseIssue<unknown>;
type Problem = { readonly path: string; readonly issue: Issue; readonly isUnknown: boolean };

/** An unknown key goes first: it may be what something else lacks. */
function firstProblem(issues: readonly Issue[]): Problem {
  const problems = issues.flatMap((issue) => toProblems(issue, []));
  return problems.find(({ isUnknown }) => isUnknown) ?? problems[0]!;
}

function toProblems(issue: Issue, outside: readonly unknown[]): Problem[] {
  const keys = [...outside, ...(issue.path ?? []).map(({ key }) => key)];
  // An object given where something else would do, too, is judged as an object.
  const inner = issue.issues?.filter(({ path }) => path !== undefined || !isObject(issue.input)) ?? [];
  if (inner.length > 0) return inner.flatMap((issue) => toProblems(issue, keys));
  const path = keys.reduce<string>((before, key) => {
    if (typeof key === "number") return `${before}[${key}]`;
    return before === "" ? String(key) : `${before}.${String(key)}`;
  }, "");
  if (issue.type !== "strict_object") return [{ path, issue, isUnknown: false }];
  return [{ path, issue: { ...issue, message: "required, but missing." }, isUnknown: issue.expected === "never" }];
}

/** The nearest key of the same object, or the place where the key is one, or the keys there are. */
function hintFor(path: string, schema: Schema<unknown>): string {
  const all = pathsOf(schema).map((known) => splitPath(known));
  const [parent, key] = splitPath(path.replaceAll(/\[\d+\]/g, ""));
  const prefix = path.slice(0, path.length - key.length);
  const elsewhere = all.filter(([, known]) => known === key).map(([place]) => place);
  if (elsewhere.length > 0)
    return `It belongs ${elsewhere.map((place) => place && `in ${place}`).join(" or ") || "at the top"}.`;
  const here = all.filter(([place]) => place === parent).map(([, known]) => known);
  const nearest = nearestName(key, here);
  if (nearest !== undefined) return `Did you mean "${prefix}${nearest}"?`;
  return `Known${parent === "" ? "" : ` in ${parent}`}: ${here.join(", ")}.`;
}

function splitPath(path: string): [parent: string, key: string] {
  const end = path.lastIndexOf(".");
  return [path.slice(0, Math.max(end, 0)), path.slice(end + 1)];
}

/** Every key below a schema, lists without their places: `data.datasets.folder`. */
function pathsOf(schema: object, prefix = ""): string[] {
  const {
    entries = {},
    options = [],
    pipe,
    wrapped,
    item,
  } = schema as {
    readonly entries?: Readonly<Record<string, object>>;
    readonly options?: readonly unknown[];
    readonly pipe?: readonly object[];
    readonly wrapped?: object;
    readonly item?: object;
  };
  if (pipe) return pipe.flatMap((schema) => pathsOf(schema, prefix));
  const inside = [wrapped, item, ...options].filter(isObject).flatMap((schema) => pathsOf(schema, prefix));
  const own = Object.entries(entries).flatMap(([key, schema]) => [
    `${prefix}${key}`,
    ...pathsOf(schema, `${prefix}${key}.`),
  ]);
  return [...own, ...inside];
}

function expected(what: string): Message {
  return ({ input }) => `expected ${what}, got ${write(input)}.`;
}

function write(value: unknown): string {
  if (typeof value === "function") return "a function";
  if (typeof value === "number" || typeof value === "bigint" || typeof value === "symbol") return String(value);
  return describe(value);
}
