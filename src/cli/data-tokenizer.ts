/** The tokenizer that a data set is made with, together with its files. */
import { FormatError } from "../errors.ts";
import { openTokenizerFiles } from "../formats/node-tokenizer.ts";
import { createTokenizer } from "../tokenizer/create-tokenizer.ts";
import type { DatasetTokenizer } from "../training/data/node-prepare.ts";
import { tokenizerFiles } from "./convert-tokenizer.ts";

/**
 * @param path a folder, a tokenizer.json or a tokenizer.model; beside a file its tokenizer_config.json counts.
 * @throws {FormatError} if there is no tokenizer.
 */
export async function openDatasetTokenizer(path: string): Promise<DatasetTokenizer> {
  const files = await openTokenizerFiles(path);
  const tokenizer = createTokenizer(files);
  if (tokenizer === undefined || files.kind !== "files") {
    throw new FormatError(`${path}: a folder with tokenizer.json or tokenizer.model was required, it holds neither.`);
  }
  return { tokenizer, files: tokenizerFiles(files) };
}
