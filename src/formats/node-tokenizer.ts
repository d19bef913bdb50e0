/** A tokenizer's files at a path: a folder, a file of its own, or a GGUF file. */
import { dirname } from "node:path";
import { readWhole } from "./bytes.ts";
import type { TokenizerFiles } from "./checkpoint.ts";
import { openGgufTokenizer } from "./gguf/gguf-llama.ts";
import { MAX_TOKENIZER_BYTES, readTokenizerFiles } from "./hf-folder.ts";
import { fileSource, folderFiles, isFolder } from "./node-files.ts";
import { settleFolder } from "./node-folder.ts";

/**
 * Reads what tells of a tokenizer.
 * @param path a folder, a .gguf file, a tokenizer.json or a tokenizer.model; beside the last two their
 * tokenizer_config.json counts.
 */
export async function openTokenizerFiles(path: string): Promise<TokenizerFiles> {
  await settleFolder(path);
  if (await isFolder(path)) return readFolder(path);
  const file = await fileSource(path);
  try {
    const name = path.toLowerCase();
    if (name.endsWith(".gguf")) return await openGgufTokenizer(file);
    const bytes = await readWhole(file, MAX_TOKENIZER_BYTES);
    const beside = await readFolder(dirname(path));
    const config = beside.kind === "files" ? beside.config : {};
    return {
      kind: "files",
      config,
      ...(name.endsWith(".json") ? { tokenizerJson: bytes } : { sentencePieceModel: bytes }),
    };
  } finally {
    await file.close();
  }
}

async function readFolder(path: string): Promise<TokenizerFiles> {
  const folder = folderFiles(path);
  try {
    return await readTokenizerFiles(folder);
  } finally {
    await folder.close();
  }
}
