/** The files that text comes from, and the documents in them. */
import { readdir, stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { describe, FormatError, isObject } from "../../errors.ts";
import { type DocumentPart, partsOf, splitDocuments } from "./documents.ts";
import { readParquetColumn } from "./node-parquet.ts";
import { readLines, type ReadOptions, readTextBlocks } from "./node-text.ts";

/** The kinds of file that text is read from. */
export type SourceKind = "text" | "jsonl" | "parquet";
/** A file with text, and its size. */
export type SourceFile = { readonly path: string; readonly kind: SourceKind; readonly bytes: number };

/** How documents are found in files. */
export type DocumentOptions = ReadOptions & {
  /** What stands between the documents of a text file. Default `<|endoftext|>`; "": each file is one. */
  readonly separator?: string | undefined;
  /** The field of JSONL, the column of Parquet. Default `text`. */
  readonly textField?: string | undefined;
};

/** GPT-2's end-of-text token, as it is written between documents. */
export const DEFAULT_SEPARATOR = "<|endoftext|>";
/** The field that holds the text in most data sets. */
export const DEFAULT_TEXT_FIELD = "text";

const kinds: readonly (readonly [RegExp, SourceKind])[] = [
  [/\.(txt|text|md)(\.gz)?$/i, "text"],
  [/\.(jsonl|ndjson)(\.gz)?$/i, "jsonl"],
  [/\.parquet$/i, "parquet"],
];
const known = ".txt, .md, .jsonl, .ndjson (each also .gz) and .parquet";

/**
 * Lists files, and the files in folders at any depth, in the order of their names.
 * @throws {FormatError} for a file of another kind, and if a folder holds none of these.
 */
export async function listSources(paths: readonly string[]): Promise<SourceFile[]> {
  const sources: SourceFile[] = [];
  for (const path of paths) {
    const found = await statOf(path);
    if (!found.isDirectory()) {
      const kind = kindOf(path);
      if (kind === undefined) throw new FormatError(`${path}: a file of a kind that is read was required: ${known}.`);
      sources.push({ path, kind, bytes: found.size });
      continue;
    }
    const names = (await readdir(path, { recursive: true })).sort();
    const inFolder: SourceFile[] = [];
    for (const name of names) {
      const kind = kindOf(name);
      const file = join(path, name);
      if (kind === undefined || basename(name).startsWith(".")) continue;
      const { size } = await statOf(file);
      inFolder.push({ path: file, kind, bytes: size });
    }
    if (inFolder.length === 0) throw new FormatError(`${path}: the folder holds no file that is read: ${known}.`);
    sources.push(...inFolder);
  }
  return sources;
}

/** Reads the documents of a file. @throws {FormatError} naming the file and the line of what can't be read. */
export async function* readDocuments(source: SourceFile, options: DocumentOptions = {}): AsyncGenerator<DocumentPart> {
  const { separator = DEFAULT_SEPARATOR, textField = DEFAULT_TEXT_FIELD } = options;
  if (source.kind === "text") {
    yield* splitDocuments(readTextBlocks(source.path, options), separator);
  } else if (source.kind === "parquet") {
    for await (const text of readParquetColumn(source.path, textField, options)) yield* partsOf(text);
  } else {
    for await (const { text, line } of readLines(source.path, options)) {
      yield* partsOf(textOf(parseLine(text, source.path, line), textField, `${source.path}:${line}`));
    }
  }
}

/** Parses a line of JSONL. @throws {FormatError} unless it is a JSON object. */
export function parseLine(text: string, path: string, line: number): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FormatError(`${path}:${line}: a line of JSON is required: ${(cause as Error).message}.`, { cause });
  }
  if (!isObject(value)) throw new FormatError(`${path}:${line}: a JSON object is required, such as {"text": "…"}.`);
  return value;
}

function textOf(row: Record<string, unknown>, field: string, where: string): string {
  const value = row[field];
  if (typeof value === "string") return value;
  const fields = Object.keys(row).map((key) => `"${key}"`);
  const others = fields.length === 0 ? "no fields" : fields.join(", ");
  if (value !== undefined) throw new FormatError(`${where}: "${field}" must be text, got ${describe(value)}.`);
  const advice = Array.isArray(row["token_ids"])
    ? 'These are tokens already: use "mobilellm data convert".'
    : "Name one of them as the text field (--text-field).";
  throw new FormatError(`${where}: a field "${field}" is required, got ${others}. ${advice}`);
}

function kindOf(path: string): SourceKind | undefined {
  return kinds.find(([pattern]) => pattern.test(path))?.[1];
}

async function statOf(path: string): Promise<{ isDirectory(): boolean; size: number }> {
  return stat(path).catch((cause: unknown) => {
    throw new FormatError(
      `${path}: a file or folder with text was required, and there is nothing to read. Check the path.`,
      {
        cause,
      },
    );
  });
}
