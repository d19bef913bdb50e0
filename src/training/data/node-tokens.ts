/** Tokens that others made, and for others: JSONL of `token_ids`, llm.c shards, our data sets. */
import { randomBytes } from "node:crypto";
import { mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { describe, FormatError } from "../../errors.ts";
import { fileSource, writeAtomically } from "../../formats/node-files.ts";
import { endOfText } from "./encode-documents.ts";
import { type Manifest, MANIFEST_FILE, type SourceCounts, type SplitName } from "./manifest.ts";
import { createShardWriter, openDataset, openShard } from "./node-dataset.ts";
import { createSplitter, newSource, type PrepareOptions, writeDataset } from "./node-prepare.ts";
import { parseLine } from "./node-sources.ts";
import { readLines, type ReadOptions } from "./node-text.ts";
import { encodeTokens, MAX_SHARD_TOKENS, tokenBytes, type TokenDtype } from "./shard.ts";
import type { TokenStream } from "./token-stream.ts";

/** A file or a folder of tokens. */
export type TokenFile = {
  readonly path: string;
  /** `jsonl`: lines of {"token_ids": […]}, MobileLLM's layout for pretraining. */
  readonly kind: "dataset" | "jsonl" | "shard";
  readonly bytes: number;
};

const CHUNK_TOKENS = 262_144;
const MAX_ID = 2 ** 32 - 1;

/**
 * Lists data sets, .jsonl and .bin files, and folders with such files at any depth, in the order of their names.
 * @throws {FormatError} for a file of another kind, and if a folder holds none of these.
 */
export async function listTokenFiles(paths: readonly string[]): Promise<TokenFile[]> {
  const files: TokenFile[] = [];
  for (const path of paths) {
    const status = await stat(path).catch((cause: unknown) => {
      throw new FormatError(`${path}: tokens were required, and there is nothing to read. Check the path.`, { cause });
    });
    if (!status.isDirectory()) {
      const kind = kindOf(path);
      if (kind === undefined) throw new FormatError(`${path}: tokens as .jsonl, .jsonl.gz or .bin were required.`);
      files.push({ path, kind, bytes: status.size });
      continue;
    }
    const names = (await readdir(path, { recursive: true })).sort();
    const inside: TokenFile[] = [];
    for (const name of names) {
      const kind = kindOf(name);
      const file = join(path, name);
      if (kind !== undefined) inside.push({ path: file, kind, bytes: (await stat(file)).size });
    }
    if (names.includes(MANIFEST_FILE)) {
      files.push({ path, kind: "dataset", bytes: inside.reduce((sum, { bytes }) => sum + bytes, 0) });
    } else if (inside.length === 0) {
      throw new FormatError(
        `${path}: a folder with ${MANIFEST_FILE}, .jsonl or .bin files was required, it holds none.`,
      );
    } else files.push(...inside);
  }
  return files;
}

function kindOf(path: string): "jsonl" | "shard" | undefined {
  return /\.jsonl(\.gz)?$/i.test(path) ? "jsonl" : /\.bin$/i.test(path) ? "shard" : undefined;
}

/** Which tokens are read, and which are refused. */
export type ReadTokensOptions = ReadOptions & {
  /** The split of a data set that is read. Default: train. */
  readonly split?: SplitName | undefined;
  /** What ids must be below. Default: 2³². */
  readonly vocabSize?: number | undefined;
};

/** Reads tokens, many at a time. @throws {FormatError} naming the file and the line of what is no token. */
export async function* readTokens(
  { path, kind }: TokenFile,
  options: ReadTokensOptions = {},
): AsyncGenerator<ArrayLike<number>> {
  const { split = "train", vocabSize = MAX_ID + 1 } = options;
  const check = (tokens: ArrayLike<number>, where: string): ArrayLike<number> => {
    for (let i = 0; i < tokens.length; i++) {
      const id: unknown = tokens[i];
      if (typeof id === "number" && Number.isInteger(id) && id >= 0 && id < vocabSize) continue;
      throw new FormatError(
        `${where}: token ${i} must be a whole number from 0 to ${vocabSize - 1}, got ${describe(id)}.`,
      );
    }
    return tokens;
  };
  if (kind === "jsonl") {
    for await (const { text, line } of readLines(path, options)) {
      const where = `${path}:${line}`;
      const row = parseLine(text, path, line);
      const tokens = row["token_ids"];
      if (Array.isArray(tokens)) yield check(tokens as number[], where);
      else {
        const fields = Object.keys(row).map((key) => `"${key}"`);
        throw new FormatError(`${where}: a list "token_ids" is required, got ${fields.join(", ") || "no fields"}.`);
      }
    }
    return;
  }
  if (kind === "dataset") {
    const dataset = await openDataset(path);
    try {
      const size = tokenBytes(dataset.manifest.dtype);
      for await (const tokens of readStream(dataset.splits[split], size, options)) yield check(tokens, path);
    } finally {
      await dataset.close();
    }
    return;
  }
  const file = await fileSource(path);
  try {
    const shard = await openShard(file);
    for await (const tokens of readStream(shard, tokenBytes(shard.dtype), options)) yield check(tokens, path);
  } finally {
    await file.close();
  }
}

async function* readStream(
  stream: TokenStream,
  size: number,
  { signal, onBytes }: ReadOptions,
): AsyncGenerator<ArrayLike<number>> {
  for (let start = 0; start < stream.length; start += CHUNK_TOKENS) {
    signal?.throwIfAborted();
    const tokens = await stream.read(start, Math.min(CHUNK_TOKENS, stream.length - start));
    onBytes?.(tokens.length * size);
    yield tokens;
  }
}

/**
 * Writes lines of `length` + 1 tokens, as LLM360's amber-data-prep writes them for MobileLLM's official code: one after the other,
 * not overlapping, the rest that fills no line dropped.
 * @returns how many lines, and how many tokens were dropped.
 */
export async function writeTokenJsonl(
  out: string,
  length: number,
  chunks: AsyncIterable<ArrayLike<number>>,
): Promise<{ lines: number; dropped: number }> {
  await mkdir(dirname(out), { recursive: true });
  return writeAtomically(out, async (sink) => {
    let lines = 0;
    let row: number[] = [];
    let text = "";
    const flush = async (): Promise<void> => {
      await sink.write(new TextEncoder().encode(text));
      text = "";
    };
    for await (const chunk of chunks) {
      for (let i = 0; i < chunk.length; i++) {
        row.push(chunk[i]!);
        if (row.length <= length) continue;
        text += `{"token_ids": [${row.join(", ")}]}\n`;
        lines++;
        row = [];
        if (text.length > 1_048_576) await flush();
      }
    }
    await flush();
    if (lines === 0) throw new FormatError(`${out}: a line needs ${length + 1} tokens, there are ${row.length}.`);
    return { lines, dropped: row.length };
  });
}

/** Writes one llm.c shard. @returns how many tokens it holds. */
export async function writeTokenShard(
  out: string,
  dtype: TokenDtype,
  chunks: AsyncIterable<ArrayLike<number>>,
): Promise<number> {
  const folder = dirname(out);
  await mkdir(folder, { recursive: true });
  const temporary = `.${basename(out)}.${randomBytes(6).toString("hex")}.tmp`;
  const writer = createShardWriter(
    folder,
    (index) => {
      if (index === 0) return temporary;
      throw new FormatError(`${out}: a shard holds ${MAX_SHARD_TOKENS} tokens, there are more. Name a folder.`);
    },
    dtype,
    MAX_SHARD_TOKENS,
  );
  try {
    for await (const tokens of chunks) await writer.write(tokens);
    const [shard] = await writer.finish();
    if (shard === undefined) throw new FormatError(`${out}: tokens were required, there are none.`);
    await rename(join(folder, temporary), out);
    return shard.tokens;
  } finally {
    await writer.abort();
    await rm(join(folder, temporary), { force: true });
  }
}

/** Which tokens become which data set. */
export type TokensToDatasetOptions = ReadTokensOptions &
  Pick<PrepareOptions, "out" | "tokenizer" | "files" | "heldOut" | "seed" | "shardTokens"> & {
    readonly sources: readonly TokenFile[];
  };

/** Makes a data set from tokens; documents end with the tokenizer's end-of-text token. */
export async function tokensToDataset(options: TokensToDatasetOptions): Promise<Manifest> {
  const { tokenizer, heldOut, seed } = options;
  const eosToken = endOfText(tokenizer);
  const { vocabSize } = tokenizer;
  return writeDataset(options, async (write) => {
    const splitter = createSplitter(heldOut, seed, write);
    const sources: SourceCounts[] = [];
    for (const file of options.sources) {
      const source = newSource(file);
      sources.push(source);
      let tokens: number[] = [];
      let isFirst = true;
      const push = async (isLast: boolean): Promise<void> => {
        const bytes = Buffer.byteLength(tokenizer.decode(tokens, { skipSpecial: true }));
        await splitter.push(source, { tokens, bytes, isFirst, isLast }, encodeTokens(tokens, "uint32"));
        tokens = [];
        isFirst = isLast;
      };
      for await (const chunk of readTokens(file, { ...options, vocabSize })) {
        for (let i = 0; i < chunk.length; i++) {
          tokens.push(chunk[i]!);
          if (chunk[i] === eosToken) await push(true);
          else if (tokens.length === CHUNK_TOKENS) await push(false);
        }
      }
      if (!isFirst || tokens.length > 0) await push(true);
    }
    await splitter.end();
    return { sources, settings: splitter.settings };
  });
}
