/** A checkpoint out of bytes in memory: a GGUF file, or a Hugging Face folder as a record of its files. */
import { FormatError } from "../errors.ts";
import { bytesSource } from "./bytes.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { openGguf } from "./gguf/gguf-llama.ts";
import { type FileSet, openHfFolder } from "./hf-folder.ts";

/** Files in memory, by name. */
export type FileRecord = Readonly<Record<string, Uint8Array | Blob>>;

/** A GGUF file, or the files of a Hugging Face folder by name. */
export type ModelBytes = Uint8Array | Blob | FileRecord;

/** Opens a checkpoint that is in memory. @throws {FormatError} for damaged files, {TypeError} for what is no bytes. */
export async function openBytes(source: ModelBytes, name = "model"): Promise<Checkpoint> {
  if (source instanceof Uint8Array || source instanceof Blob) return openGguf(bytesSource(`${name}.gguf`, source));
  if (typeof source !== "object" || source === null) {
    throw new TypeError(
      `${name}: expected a GGUF file's bytes or a record of files, got ${typeof source}. In Node, import "mobilellm" to load paths.`,
    );
  }
  return openHfFolder(recordFiles(name, source));
}

/** Makes a FileSet of files in memory. @param name for messages. */
export function recordFiles(name: string, record: FileRecord): FileSet {
  return {
    name,
    list: async () => Object.keys(record),
    async open(path) {
      const bytes = record[path];
      if (bytes === undefined) throw new FormatError(`${name}: ${path} is required and missing. Add it to the record.`);
      return bytesSource(path, bytes);
    },
    close: async () => {},
  };
}
