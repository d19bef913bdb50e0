/** Models and tokenizers at a path or on the Hub. */
import { FormatError } from "../errors.ts";
import { type TokenizerWithFiles, tokenizerWithFiles } from "../conversion/tokenizer.ts";
import type { ByteSource } from "../formats/bytes.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import { openGguf } from "../formats/gguf/gguf-llama.ts";
import { type FileSet, openHfFolder } from "../formats/hf-folder.ts";
import { exists, fileSource, folderFiles, isFolder } from "../formats/node-files.ts";
import { settleFolder } from "../formats/node-folder.ts";
import { type HubOptions, isHubId, openHubModel } from "../formats/node-hub.ts";
import { openTokenizerFiles } from "../formats/node-tokenizer.ts";
import { type ModelBytes, openBytes } from "../formats/open-bytes.ts";
import { createTokenizer } from "../tokenizer/create-tokenizer.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/** Opens a checkpoint at a path, on the Hub or in memory. Close it when done. */
export async function openSource(source: string | ModelBytes, hub: HubOptions = {}): Promise<Checkpoint> {
  return typeof source === "string" ? openCheckpoint(source, hub) : openBytes(source);
}

/** Reads only headers: the config, and where each tensor lies. What is on disk goes before the Hub. Close it when done. */
export async function openCheckpoint(path: string, hub: HubOptions = {}): Promise<Checkpoint> {
  await settleFolder(path);
  if (isHubId(path) && !(await exists(path))) return openFiles(await openHubModel(path, hub));
  if (await isFolder(path)) return openHfFolder(folderFiles(path));
  const file = await fileSource(path);
  return openGgufFile(file, () => file.close());
}

/** What the Hub gave: a folder, or one GGUF file. */
async function openFiles(files: FileSet): Promise<Checkpoint> {
  const [only, ...rest] = await files.list();
  if (only === undefined || rest.length > 0 || !only.endsWith(".gguf")) return openHfFolder(files);
  return openGgufFile(await files.open(only), () => files.close());
}

async function openGgufFile(file: ByteSource, close: () => Promise<void>): Promise<Checkpoint> {
  try {
    return { ...(await openGguf(file)), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A tokenizer from a folder, a .gguf file, a tokenizer.json or a SentencePiece .model. */
export async function openTokenizer(path: string): Promise<Tokenizer> {
  const files = await openTokenizerFiles(path);
  let tokenizer: Tokenizer | undefined;
  try {
    tokenizer = createTokenizer(files);
  } catch (cause) {
    throw new FormatError(`${path}: ${(cause as Error).message}`, { cause }); // any file may be meant as tokenizer.model
  }
  if (!tokenizer) throw new TypeError(`${path}: holds no tokenizer.json and no tokenizer.model. Pass another path.`);
  return tokenizer;
}

/** Opens a tokenizer with files that say the same, at a path as `openTokenizer` takes it or of a model on the Hub. */
export async function openTokenizerWithFiles(path: string, hub: HubOptions = {}): Promise<TokenizerWithFiles> {
  await settleFolder(path);
  if (!isHubId(path) || (await exists(path))) return tokenizerWithFiles(await openTokenizerFiles(path), path);
  const checkpoint = await openCheckpoint(path, hub);
  try {
    return tokenizerWithFiles(checkpoint.tokenizer, path);
  } finally {
    await checkpoint.close();
  }
}
