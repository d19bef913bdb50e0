/** manifest.json of a data set: where its tokens came from and how many there are. */
import { describe, FormatError, isObject } from "../../errors.ts";
import { parseJsonObject } from "../../formats/json.ts";
import type { TokenDtype } from "./shard.ts";

/** What is trained on, and what a model is measured with. */
export type SplitName = "train" | "heldOut";

/** `tokens` counts the end-of-text token after each document, `bytes` the UTF-8 of the documents alone. */
export type Counts = { documents: number; tokens: number; bytes: number };

/** The shards of a split, and what is in them together. */
export type Split = Readonly<Counts> & {
  readonly shards: readonly { readonly file: string; readonly tokens: number }[];
};

/** What a file of text gave to each split. */
export type SourceCounts = {
  /** The file's name, without its folder. */
  readonly file: string;
  readonly fileBytes: number;
  /** Documents without text, which were left out. */
  readonly emptyDocuments: number;
} & Readonly<Record<SplitName, Counts>>;

/** All that a data set says of itself. */
export type Manifest = {
  readonly format: "mobilellm-data";
  readonly version: 1;
  readonly tokenizer: {
    /** The file in the data set's folder, of which `sha256` is taken. */
    readonly file: string;
    readonly sha256: string;
    readonly vocabSize: number;
    /** The token that stands after every document; nothing stands before one. */
    readonly eosToken: number;
  };
  readonly dtype: TokenDtype;
  readonly splits: Readonly<Record<SplitName, Split>>;
  readonly sources: readonly SourceCounts[];
  /** How the data set was made. */
  readonly settings: Readonly<Record<string, string | number>>;
};

/** The manifest's name in a data set's folder. */
export const MANIFEST_FILE = "manifest.json";

/** Makes counts that are all 0, to be added to. */
export function noCounts(): Counts {
  return { documents: 0, tokens: 0, bytes: 0 };
}

/** Reads a manifest. @throws {FormatError} for a damaged one, or one of a later version. */
export function parseManifest(bytes: Uint8Array, name: string): Manifest {
  const json = parseJsonObject(bytes, name);
  if (json["format"] !== "mobilellm-data" || json["version"] !== 1) {
    throw new FormatError(
      `${name}: a data set of version 1 was required, got ${describe(json["format"])} version ${describe(json["version"])}. Make it with "mobilellm data prepare".`,
    );
  }
  const tokenizer = object(json["tokenizer"], "tokenizer", name);
  for (const key of ["file", "sha256"]) text(tokenizer[key], `tokenizer.${key}`, name);
  for (const key of ["vocabSize", "eosToken"]) count(tokenizer[key], `tokenizer.${key}`, name);
  if (json["dtype"] !== "uint16" && json["dtype"] !== "uint32") {
    throw new FormatError(`${name}: dtype must be uint16 or uint32, got ${describe(json["dtype"])}.`);
  }
  const splits = object(json["splits"], "splits", name);
  for (const key of ["train", "heldOut"]) checkSplit(object(splits[key], `splits.${key}`, name), `splits.${key}`, name);
  if (!Array.isArray(json["sources"])) throw new FormatError(`${name}: sources must be a list.`);
  object(json["settings"], "settings", name);
  return json as unknown as Manifest;
}

function checkSplit(split: Record<string, unknown>, where: string, name: string): void {
  for (const key of ["documents", "tokens", "bytes"]) count(split[key], `${where}.${key}`, name);
  const { shards } = split;
  if (!Array.isArray(shards)) throw new FormatError(`${name}: ${where}.shards must be a list.`);
  let tokens = 0;
  for (const [index, shard] of shards.entries()) {
    const { file, tokens: held } = object(shard, `${where}.shards[${index}]`, name);
    text(file, `${where}.shards[${index}].file`, name);
    tokens += count(held, `${where}.shards[${index}].tokens`, name);
  }
  if (tokens !== split["tokens"]) {
    throw new FormatError(
      `${name}: the shards of ${where} hold ${tokens} tokens, ${describe(split["tokens"])} were required.`,
    );
  }
}

function object(value: unknown, where: string, name: string): Record<string, unknown> {
  if (!isObject(value)) throw new FormatError(`${name}: ${where} must be an object, got ${describe(value)}.`);
  return value;
}

function text(value: unknown, where: string, name: string): void {
  if (typeof value !== "string" || value === "") {
    throw new FormatError(`${name}: ${where} must be text, got ${describe(value)}.`);
  }
}

function count(value: unknown, where: string, name: string): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    throw new FormatError(`${name}: ${where} must be a whole number from 0 on, got ${describe(value)}.`);
  }
  return value;
}
