/** Data files: which of those that are there holds a task's split, and the rows in it. */
import { FormatError, isObject } from "../errors.ts";
import { createRow, type Row } from "./row.ts";
import type { DataFile, Task } from "./task.ts";

/** Files of data by path, such as `arc_easy.jsonl`. */
export type DataSource = {
  /** What to call it in messages: a folder, or the Hub. */
  readonly name: string;
  /** Gives paths with `/`, from which `chooseFiles` takes a split's. */
  list(file: DataFile, signal?: AbortSignal): Promise<readonly string[]>;
  /** Reads a whole file that `list` named. */
  read(file: DataFile, path: string, signal?: AbortSignal): Promise<Uint8Array>;
};

/** What was asked for is not in the data. */
export class MissingDataError extends Error {
  override readonly name = "MissingDataError";
}

/** Makes a source of files in memory, as a browser has them. */
export function memoryData(files: Readonly<Record<string, string | Uint8Array | Blob>>): DataSource {
  return {
    name: "data",
    list: () => Promise.resolve(Object.keys(files)),
    async read(_file, path) {
      const content = files[path];
      if (content === undefined) throw new MissingDataError(`data: ${path} was required, and is not there.`);
      if (typeof content === "string") return new TextEncoder().encode(content);
      return content instanceof Uint8Array ? content : new Uint8Array(await content.arrayBuffer());
    },
  };
}

/** Reads the rows of a split; undefined if the source has none of its files. */
export async function readSplit(
  source: DataSource,
  file: DataFile,
  signal?: AbortSignal,
): Promise<readonly Row[] | undefined> {
  const paths = chooseFiles(await source.list(file, signal), file);
  if (paths.length === 0) return undefined;
  const parts: (readonly Row[])[] = [];
  for (const path of paths) parts.push(await parseRows(path, await source.read(file, path, signal)));
  return parts.flat();
}

/** Reads the rows of a task. @throws {MissingDataError} that says which file is not there, and where to get it. */
export async function readTaskRows(source: DataSource, task: Task, signal?: AbortSignal): Promise<readonly Row[]> {
  const rows = await readSplit(source, task.data, signal);
  if (rows !== undefined) return rows;
  const { names, hub } = task.data;
  const from = hub
    ? `Get it from https://huggingface.co/datasets/${hub.dataset} (${hub.config}, ${hub.split}), or leave the data option out to download it.`
    : "Put it there.";
  throw new MissingDataError(
    `${task.name}: ${names.map(withEnding).join(" or ")} was required in ${source.name}, and is not there. ${from}`,
  );
}

const withEnding = (name: string): string => (hasTextEnding(name) ? name : `${name}.jsonl`);
const hasTextEnding = (name: string): boolean => /\.(txt|raw|tokens)(\.gz)?$/.test(name);

/** Chooses a split's files: by our own names first, then as the Hub lays data sets out; several for a split in shards. */
export function chooseFiles(paths: readonly string[], file: Pick<DataFile, "names" | "hub">): readonly string[] {
  for (const name of file.names) {
    const pattern = hasTextEnding(name)
      ? new RegExp(`^(?:.*/)?${escape(name)}$`)
      : new RegExp(`^(?:.*/)?${escape(name)}(?:_subset\\d+)?\\.(?:jsonl|json|parquet)(?:\\.gz)?$`);
    const found = paths.filter((path) => pattern.test(path)).sort();
    if (found.length > 0) return found.slice(0, 1);
  }
  if (!file.hub) return [];
  const { dataset, config, split } = file.hub;
  // org/name's files lie in a folder of that name, or, from the Hub itself, at the top.
  const name = escape(dataset.split("/").at(-1)!);
  for (const inside of [
    `${escape(config)}/${split}(?:-|/)`,
    `data/${split}-`,
    `${split}-`,
    `${escape(config)}/${split}`,
  ]) {
    const pattern = new RegExp(`^(?:(?:.*/)?${name}/)?${inside}[\\w-]*\\.(?:parquet|jsonl)$`);
    const found = paths.filter((path) => pattern.test(path)).sort();
    if (found.length > 0) return found;
  }
  return [];
}

function escape(text: string): string {
  return text.replaceAll(/[^\w/]/g, "\\$&");
}

/**
 * Reads the rows of JSON lines, a JSON list, or Parquet, also in gzip; any other file is one row with its `text`.
 * @throws {FormatError} naming the file and the line.
 */
export async function parseRows(path: string, bytes: Uint8Array): Promise<readonly Row[]> {
  if (path.endsWith(".gz")) return parseRows(path.slice(0, -3), await gunzip(path, bytes));
  if (path.endsWith(".parquet")) return parseParquet(path, bytes);
  const text = decode(path, bytes);
  if (path.endsWith(".jsonl")) {
    return text
      .split("\n")
      .flatMap((line, i) => (line.trim() === "" ? [] : [parseLine(line, `${path}, line ${i + 1}`)]));
  }
  if (!path.endsWith(".json")) return [createRow({ text }, path)];
  const list = parseJson(text, path);
  if (!Array.isArray(list))
    throw new FormatError(`${path}: a list of rows was required. Is it JSON lines? Name it .jsonl.`);
  return list.map((fields, i) => checkFields(fields, `${path}, row ${i + 1}`));
}

function parseLine(line: string, where: string): Row {
  return checkFields(parseJson(line, where), where);
}

function parseJson(text: string, where: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new FormatError(`${where}: valid JSON was required (${(cause as Error).message}).`, { cause });
  }
}

function checkFields(fields: unknown, where: string): Row {
  if (!isObject(fields)) {
    throw new FormatError(
      `${where}: an object was required, got ${Array.isArray(fields) ? "a list" : String(fields)}.`,
    );
  }
  return createRow(fields, where);
}

async function parseParquet(path: string, bytes: Uint8Array): Promise<readonly Row[]> {
  const [{ parquetReadObjects }, { compressors }] = await Promise.all([
    import("hyparquet"),
    import("hyparquet-compressors"),
  ]);
  const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
  try {
    const rows = await parquetReadObjects({ file, compressors });
    return rows.map((fields, i) => createRow(fields, `${path}, row ${i + 1}`));
  } catch (cause) {
    throw new FormatError(`${path}: a Parquet file was required (${(cause as Error).message}). Download it again.`, {
      cause,
    });
  }
}

async function gunzip(path: string, bytes: Uint8Array): Promise<Uint8Array> {
  const stream = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream().pipeThrough(new DecompressionStream("gzip"));
  try {
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch (cause) {
    throw new FormatError(`${path}: a gzip file was required. Download it again.`, { cause });
  }
}

function decode(path: string, bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(`${path}: UTF-8 text was required.`, { cause });
  }
}
