/** A checkpoint out of bytes in memory: a GGUF file, or a Hugging Face folder as a record of its files. */
import { bytesSource, type Checkpoint } from "./checkpoint.ts";
import { FormatError } from "../errors.ts";
import { openGguf } from "./gguf/gguf-llama.ts";
import { openHfFolder } from "./hf-folder.ts";

/** A GGUF file, or the files of a Hugging Face folder by name. */
export type ModelBytes = Uint8Array | Blob | Readonly<Record<string, Uint8Array | Blob>>;

export async function openBytes(source: ModelBytes, name = "model"): Promise<Checkpoint> {
  if (source instanceof Uint8Array || source instanceof Blob) return openGguf(bytesSource(`${name}.gguf`, source));
  if (typeof source !== "object" || source === null) {
    throw new TypeError(
      `loadModel: expected a GGUF file's bytes or a record of files, got ${typeof source}. In Node, import "mobilellm" to load paths.`,
    );
  }
  return openHfFolder({
    name,
    list: async () => Object.keys(source),
    async open(path) {
      const bytes = source[path];
      if (bytes === undefined) throw new FormatError(`${name}: ${path} is required and missing. Add it to the record.`);
      return bytesSource(path, bytes);
    },
    close: async () => {},
  });
}
