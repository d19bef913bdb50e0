/** A folder as Hugging Face lays it out: config.json, weights in one or several files, tokenizer files. */
import { describe, FormatError, isObject } from "../errors.ts";
import { readWhole, type ByteSource } from "./bytes.ts";
import type { Checkpoint, TensorEntry, TokenizerFiles } from "./checkpoint.ts";
import { parseHfConfig, tokenIds, type HfConfig } from "./hf-config.ts";
import { decodeUtf8, parseJsonObject } from "./json.ts";
import { readPytorchBin } from "./pytorch-bin.ts";
import { checkTensors } from "./required-tensors.ts";
import { readSafetensors } from "./safetensors.ts";

/** Files by name: a folder on disk, a model on the Hub, files that someone dropped on a page. */
export type FileSet = {
  /** The folder's name, for messages. */
  readonly name: string;
  /** Gives the files' paths relative to the folder, with `/`. */
  list(): Promise<readonly string[]>;
  /** Opens a file. @throws {FormatError} if it is not there. */
  open(path: string): Promise<ByteSource>;
  /** Closes every file that was opened. */
  close(): Promise<void>;
};

/** The largest tokenizer.json of a public model (a vocabulary of 260,000) has 34 MB. */
export const MAX_TOKENIZER_BYTES: number = 128 * 1024 * 1024;
/** Config files have a few kB, the index of a thousand-layer model less than 1 MB. */
const MAX_JSON_BYTES = 16 * 1024 * 1024;
/** Each shard is an open file. Models of 400 B parameters have about 200. */
const MAX_SHARDS = 1000;

/** Where weights may lie, the best first. */
const weightFiles = [
  { path: "model.safetensors", format: "safetensors", isIndex: false },
  { path: "model.safetensors.index.json", format: "safetensors", isIndex: true },
  { path: "pytorch_model.bin", format: "pytorch", isIndex: false },
  { path: "pytorch_model.bin.index.json", format: "pytorch", isIndex: true },
] as const;

/**
 * Opens a checkpoint; its weights stay in the files until read. The folder is closed with the checkpoint, and when
 * opening fails.
 * @throws {FormatError} naming the file and what is wrong with it.
 */
export async function openHfFolder(folder: FileSet): Promise<Checkpoint> {
  try {
    return await openFolder(folder);
  } catch (error) {
    await folder.close();
    throw error;
  }
}

async function openFolder(folder: FileSet): Promise<Checkpoint> {
  const paths = new Set(await folder.list());
  if (!paths.has("config.json")) throw missingConfig(folder.name, paths);
  const weights = weightFiles.find(({ path }) => paths.has(path));
  if (weights === undefined) {
    throw new FormatError(
      `${folder.name}: weights were required (${weightFiles.map(({ path }) => path).join(", ")}), got ${listing(paths)}.`,
    );
  }
  const json = await readJson(folder, "config.json");
  const config = await addGenerationEos(parseHfConfig(json, "config.json"), folder, paths);

  const read = weights.format === "safetensors" ? readSafetensors : readPytorchBin;
  const tensors = weights.isIndex
    ? await readShards(folder, weights.path, paths, read)
    : await read(await folder.open(weights.path));
  return {
    format: weights.format,
    name: folder.name,
    ...checkTensors(config, tensors, weights.path),
    tokenizer: await readTokenizerFiles(folder),
    close: () => folder.close(),
  };
}

/** Gives the shard files that an index names, in order of first mention. */
export function shardFiles(index: Readonly<Record<string, unknown>>, indexPath: string): readonly string[] {
  const map = index["weight_map"];
  if (!isObject(map)) {
    throw new FormatError(`${indexPath}: weight_map must be an object of tensor: file, got ${describe(map)}.`);
  }
  const files = new Set<string>();
  for (const [tensor, file] of Object.entries(map)) {
    if (typeof file !== "string") {
      throw new FormatError(`${indexPath}: weight_map must name a file for ${tensor}, got ${describe(file)}.`);
    }
    files.add(file);
  }
  if (files.size > MAX_SHARDS) {
    throw new FormatError(`${indexPath}: at most ${MAX_SHARDS} files were expected, got ${files.size}.`);
  }
  return [...files];
}

async function readShards(
  folder: FileSet,
  indexPath: string,
  paths: ReadonlySet<string>,
  read: (source: ByteSource) => Promise<Map<string, TensorEntry>>,
): Promise<Map<string, TensorEntry>> {
  const index = await readJson(folder, indexPath);
  const tensors = new Map<string, TensorEntry>();
  for (const file of shardFiles(index, indexPath)) {
    if (!paths.has(file)) {
      throw new FormatError(`${indexPath}: names ${file}, which is not in ${folder.name}. Download it too.`);
    }
    for (const [name, entry] of await read(await folder.open(file))) {
      const other = tensors.get(name);
      if (other !== undefined) {
        throw new FormatError(`${indexPath}: tensor ${name} is in both ${other.source.name} and ${file}.`);
      }
      tensors.set(name, entry);
    }
  }
  for (const name of Object.keys(index["weight_map"] as object)) {
    if (!tensors.has(name)) throw new FormatError(`${indexPath}: tensor ${name} is in none of the files it names.`);
  }
  return tensors;
}

/** Instruction models often list their end-of-turn tokens only in generation_config.json. */
async function addGenerationEos(config: HfConfig, folder: FileSet, paths: ReadonlySet<string>): Promise<HfConfig> {
  const path = "generation_config.json";
  if (!paths.has(path)) return config;
  const json = await readJson(folder, path);
  const more = tokenIds(json, "eos_token_id", undefined, config.vocab_size, path);
  return { ...config, eos_token_ids: [...new Set([...config.eos_token_ids, ...more])] };
}

/** Reads the files of a folder that tell of its tokenizer; it need not hold a model. */
export async function readTokenizerFiles(folder: FileSet): Promise<TokenizerFiles> {
  const paths = new Set(await folder.list());
  const bytes = async (path: string): Promise<Uint8Array | undefined> =>
    paths.has(path) ? readWhole(await folder.open(path), MAX_TOKENIZER_BYTES) : undefined;
  const json = async (path: string): Promise<Record<string, unknown>> =>
    paths.has(path) ? readJson(folder, path) : {};

  const tokenizerJson = await bytes("tokenizer.json");
  const sentencePieceModel = await bytes("tokenizer.model");
  if (tokenizerJson === undefined && sentencePieceModel === undefined) return { kind: "none" };
  const template = await bytes("chat_template.jinja");
  return {
    kind: "files",
    ...(tokenizerJson && { tokenizerJson }),
    ...(sentencePieceModel && { sentencePieceModel }),
    config: {
      ...(await json("special_tokens_map.json")),
      ...(await json("tokenizer_config.json")),
      ...(template && { chat_template: decodeTemplate(template) }),
    },
  };
}

function decodeTemplate(bytes: Uint8Array): string {
  try {
    return decodeUtf8(bytes);
  } catch (cause) {
    throw new FormatError("chat_template.jinja: UTF-8 text was expected.", { cause });
  }
}

async function readJson(folder: FileSet, path: string): Promise<Record<string, unknown>> {
  return parseJsonObject(await readWhole(await folder.open(path), MAX_JSON_BYTES), path);
}

function missingConfig(name: string, paths: ReadonlySet<string>): FormatError {
  const ggufs = [...paths].filter((path) => path.endsWith(".gguf"));
  const advice =
    ggufs.length === 1
      ? `It holds one GGUF file: pass the file, ${name}/${ggufs[0]}.`
      : ggufs.length > 1
        ? `It holds ${ggufs.length} GGUF files: pass one of them, such as ${name}/${ggufs[0]}.`
        : `It holds ${listing(paths)}.`;
  return new FormatError(`${name}: config.json was required, but is missing. ${advice}`);
}

function listing(paths: ReadonlySet<string>): string {
  if (paths.size === 0) return "no files";
  const first = [...paths].slice(0, 5).join(", ");
  return paths.size > 5 ? `${first} and ${paths.size - 5} more` : first;
}
