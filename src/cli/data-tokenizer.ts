/** The tokenizer that a data set is made with, together with its files. */
import { FormatError } from "../errors.ts";
import type { TokenizerFiles } from "../formats/checkpoint.ts";
import { openTokenizerFiles } from "../formats/node-tokenizer.ts";
import { createTokenizer } from "../tokenizer/create-tokenizer.ts";
import type { DatasetTokenizer } from "../training/data/node-prepare.ts";
import { hfTokenizer } from "./convert-tokenizer.ts";

/**
 * @param path a folder, a .gguf file, a tokenizer.json or a tokenizer.model; beside the last two their tokenizer_config.json counts.
 * @throws {FormatError} if there is no tokenizer, or none that stands in files of its own.
 */
export async function openDatasetTokenizer(path: string): Promise<DatasetTokenizer> {
  return datasetTokenizer(await openTokenizerFiles(path), path);
}

/** @param path for messages. */
export function datasetTokenizer(source: TokenizerFiles, path: string): DatasetTokenizer {
  const tokenizer = createTokenizer(source);
  if (tokenizer === undefined) {
    throw new FormatError(
      `${path}: a tokenizer was required (tokenizer.json, tokenizer.model or one in a .gguf file), it holds none.`,
    );
  }
  const { files, note } = hfTokenizer(source);
  if (files.size === 0)
    throw new FormatError(`${path}: a tokenizer that fits into tokenizer.json was required. ${note}`);
  return { tokenizer, files };
}
