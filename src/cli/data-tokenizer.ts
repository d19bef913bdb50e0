/** The tokenizer that a data set is made with, together with its files. */
import { dirname } from "node:path";
import { FormatError } from "../errors.ts";
import type { TokenizerFiles } from "../formats/checkpoint.ts";
import { readTokenizerFiles } from "../formats/hf-folder.ts";
import { readWhole } from "../formats/json.ts";
import { fileSource, folderFiles, isFolder } from "../formats/node-files.ts";
import { createTokenizer } from "../tokenizer/create-tokenizer.ts";
import type { DatasetTokenizer } from "../training/data/node-prepare.ts";
import { tokenizerFiles } from "./convert-tokenizer.ts";

/** The largest in use have 34 MB. */
const MAX_TOKENIZER_BYTES = 128 * 1024 * 1024;

/**
 * @param path a folder, a tokenizer.json or a tokenizer.model; beside a file its tokenizer_config.json counts.
 * @throws {FormatError} if there is no tokenizer.
 */
export async function openDatasetTokenizer(path: string): Promise<DatasetTokenizer> {
  const isDirectory = await isFolder(path);
  let files = await readFolder(isDirectory ? path : dirname(path));
  if (!isDirectory) {
    const bytes = await readFile(path);
    const config = files.kind === "files" ? files.config : {};
    files = { kind: "files", config, ...(isJson(path) ? { tokenizerJson: bytes } : { sentencePieceModel: bytes }) };
  }
  const tokenizer = createTokenizer(files);
  if (tokenizer === undefined) {
    throw new FormatError(`${path}: a folder with tokenizer.json or tokenizer.model was required, it holds neither.`);
  }
  return { tokenizer, files: tokenizerFiles(files) };
}

async function readFile(path: string): Promise<Uint8Array> {
  const source = await fileSource(path);
  try {
    return await readWhole(source, MAX_TOKENIZER_BYTES);
  } finally {
    await source.close();
  }
}

async function readFolder(path: string): Promise<TokenizerFiles> {
  const folder = folderFiles(path);
  try {
    return await readTokenizerFiles(folder, new Set(await folder.list()));
  } finally {
    await folder.close();
  }
}

function isJson(path: string): boolean {
  return path.toLowerCase().endsWith(".json");
}
