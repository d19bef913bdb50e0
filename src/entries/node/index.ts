/** mobilellm in Node: what the web entry has and, besides, paths, threads and the Hub. */
import { fileURLToPath } from "node:url";
import type { ByteSource } from "../../formats/bytes.ts";
import type { Checkpoint } from "../../formats/checkpoint.ts";
import { FormatError } from "../../errors.ts";
import { openGguf } from "../../formats/gguf/gguf-llama.ts";
import { type FileSet, openHfFolder } from "../../formats/hf-folder.ts";
import { type HubOptions, isHubId, openHubModel } from "../../formats/node-hub.ts";
import { exists, fileSource, folderFiles, isFolder } from "../../formats/node-files.ts";
import { openTokenizerFiles } from "../../formats/node-tokenizer.ts";
import { type ModelBytes, openBytes } from "../../formats/open-bytes.ts";
import type { Model } from "../../inference/model.ts";
import { nodeEdge } from "../../edge/node.ts";
import { checkModelOptions, type ModelOptions, openModel } from "../../edge/open-model.ts";
import { createTokenizer } from "../../tokenizer/create-tokenizer.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";

export * from "../shared/index.ts";

export type NodeModelOptions = Omit<ModelOptions, "tokenizer"> & {
  /** For a checkpoint that has none: a tokenizer, or the path of a folder, a tokenizer.json or a tokenizer.model. */
  readonly tokenizer?: Tokenizer | string | undefined;
  /** How to reach the Hub: token, endpoint, cacheDir, offline. Default: Hugging Face's environment variables. */
  readonly hub?: HubOptions | undefined;
};

/** The model that comes with the package: it writes small stories (models/README.md). */
export const bundledModel: string = fileURLToPath(new URL("../../../models/stories.gguf", import.meta.url));

/**
 * Loads a model: a folder in Hugging Face's layout, a .gguf file, a Hub id (`org/name[@revision]`, or
 * `org/name/file.gguf` for one file), or bytes. Without a source: the bundled model.
 * @example const model = await loadModel("models/MobileLLM-125M", { dtype: "q8" });
 * @throws {FormatError} for damaged files, {BackendError} when the model does not fit.
 */
export async function loadModel(
  source: string | ModelBytes = bundledModel,
  options: NodeModelOptions = {},
): Promise<Model> {
  checkModelOptions(options, ["hub"]);
  const tokenizer = typeof options.tokenizer === "string" ? await openTokenizer(options.tokenizer) : options.tokenizer;
  const checkpoint =
    typeof source === "string"
      ? await openCheckpoint(source, { signal: options.signal, ...options.hub })
      : await openBytes(source);
  try {
    return await openModel(checkpoint, { ...options, tokenizer }, nodeEdge());
  } finally {
    await checkpoint.close();
  }
}

/** Reads only headers: the config, and where each tensor lies. What is on disk goes before the Hub. Close it when done. */
export async function openCheckpoint(path: string, hub: HubOptions = {}): Promise<Checkpoint> {
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
