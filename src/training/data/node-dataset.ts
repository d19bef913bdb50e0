/** A data set's folder: written whole or not at all, read at any place. */
import { createHash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";
import { basename, join } from "node:path";
import { FormatError, invariant } from "../../errors.ts";
import { readWhole, type ByteSource } from "../../formats/bytes.ts";
import { fileSource, type FileSource } from "../../formats/node-files.ts";
import { settleFolder } from "../../formats/node-folder.ts";
import { type Manifest, MANIFEST_FILE, parseManifest, type SplitName } from "./manifest.ts";
import {
  decodeTokens,
  encodeTokens,
  readShardHeader,
  SHARD_HEADER_BYTES,
  tokenBytes,
  type TokenDtype,
  writeShardHeader,
} from "./shard.ts";
import { joinStreams, type TokenStream } from "./token-stream.ts";

/** llm.c's own shards have as many. */
const SHARD_TOKENS = 100_000_000;
/** Tokens that are gathered before they are written. */
const BUFFER_TOKENS = 1_048_576;
/** A manifest lists each source file in about 300 bytes. */
const MAX_MANIFEST_BYTES = 256 * 1024 * 1024;

/** Writes tokens into shards, each as long as allowed. */
export type ShardWriter = {
  write(tokens: ArrayLike<number>): Promise<void>;
  /** Completes the last shard, on disk, and gives all of them. */
  finish(): Promise<{ file: string; tokens: number }[]>;
  /** Closes the file; what was written is of no use. */
  abort(): Promise<void>;
};

/** Makes a writer of `name(0)`, `name(1)`, … in a folder: a next shard when one is full, none without tokens. */
export function createShardWriter(
  folder: string,
  name: (index: number) => string,
  dtype: TokenDtype,
  shardTokens: number = SHARD_TOKENS,
): ShardWriter {
  const shards: { file: string; tokens: number }[] = [];
  const buffer = new Uint32Array(Math.min(BUFFER_TOKENS, shardTokens));
  let held = 0;
  let current: { readonly file: FileHandle; readonly shard: { file: string; tokens: number } } | undefined;

  async function flush(): Promise<void> {
    if (held === 0) return;
    if (current === undefined) {
      const shard = { file: name(shards.length), tokens: 0 };
      current = { shard, file: await open(join(folder, shard.file), "wx") };
      shards.push(shard);
      await writeAll(current.file, writeShardHeader({ dtype, tokens: 0 }));
    }
    const { file, shard } = current;
    await writeAll(file, encodeTokens(buffer.subarray(0, held), dtype));
    shard.tokens += held;
    held = 0;
    if (shard.tokens === shardTokens) await closeShard();
  }

  async function closeShard(): Promise<void> {
    if (current === undefined) return;
    const { file, shard } = current;
    await writeAll(file, writeShardHeader({ dtype, tokens: shard.tokens }), 0);
    await file.sync();
    await file.close();
    current = undefined;
  }

  return {
    async write(tokens) {
      for (let i = 0; i < tokens.length; i++) {
        buffer[held++] = tokens[i]!;
        const inShard = (current?.shard.tokens ?? 0) + held;
        if (held === buffer.length || inShard === shardTokens) await flush();
      }
    },
    async finish() {
      await flush();
      await closeShard();
      return shards;
    },
    async abort() {
      await current?.file.close();
      current = undefined;
    },
  };
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number | null = null): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    const at = position === null ? null : position + done;
    done += (await file.write(bytes, done, bytes.length - done, at)).bytesWritten;
  }
}

/** Writes a new file and waits until it is on disk. */
export async function writeFileSynced(path: string, bytes: Uint8Array | string): Promise<void> {
  const file = await open(path, "wx");
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Gives a split's names of shards, by number. */
export function shardFile(split: SplitName): (index: number) => string {
  const prefix = split === "train" ? "train" : "heldout";
  return (index) => `${prefix}-${String(index).padStart(5, "0")}.bin`;
}

/** Computes SHA-256, in hex. */
export function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** A data set whose shards are open. */
export type Dataset = {
  readonly name: string;
  readonly manifest: Manifest;
  readonly splits: Readonly<Record<SplitName, TokenStream>>;
  close(): Promise<void>;
};

/** Opens a data set. @throws {FormatError} if the folder is none, or a shard is not what the manifest says. */
export async function openDataset(folder: string): Promise<Dataset> {
  await settleFolder(folder);
  const opened: FileSource[] = [];
  const close = async (): Promise<void> => {
    for (const file of opened.splice(0)) await file.close();
  };
  const openFile = async (name: string): Promise<FileSource> => {
    const file = await fileSource(join(folder, name));
    opened.push(file);
    return file;
  };
  try {
    const name = join(folder, MANIFEST_FILE);
    const manifest = parseManifest(await readWhole(await openFile(MANIFEST_FILE), MAX_MANIFEST_BYTES), name);
    const openSplit = async (split: SplitName): Promise<TokenStream> => {
      const shards: TokenStream[] = [];
      for (const { file, tokens } of manifest.splits[split].shards) {
        if (file !== basename(file))
          throw new FormatError(`${name}: a shard in this folder was required, got ${file}.`);
        const shard = await openShard(await openFile(file));
        if (shard.dtype !== manifest.dtype || shard.length !== tokens) {
          throw new FormatError(
            `${join(folder, file)}: ${tokens} tokens of ${manifest.dtype} were required, got ${shard.length} of ${shard.dtype}. Make the data set again.`,
          );
        }
        shards.push(shard);
      }
      return joinStreams(shards);
    };
    const splits = { train: await openSplit("train"), heldOut: await openSplit("heldOut") };
    return { name: folder, manifest, splits, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Opens the tokens of an llm.c shard, which are read when asked for. @throws {FormatError} if it is none. */
export async function openShard(source: ByteSource): Promise<TokenStream & { readonly dtype: TokenDtype }> {
  const header = new Uint8Array(Math.min(SHARD_HEADER_BYTES, source.size));
  await source.read(0, header);
  const { dtype, tokens } = readShardHeader(header, source.size, source.name);
  const size = tokenBytes(dtype);
  return {
    dtype,
    length: tokens,
    async read(start, count) {
      invariant(start >= 0 && start + count <= tokens, `${source.name}: tokens ${start} + ${count} of ${tokens}`);
      const bytes = new Uint8Array(count * size);
      await source.read(SHARD_HEADER_BYTES + start * size, bytes);
      return decodeTokens(bytes, dtype);
    },
  };
}
