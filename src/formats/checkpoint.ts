/**
 * What every file format is read into: a config in Hugging Face's words and tensors under Hugging Face's names, each
 * a byte range of some source. Nothing here holds weights in memory.
 */
import { FormatError } from "../errors.ts";
import type { Encoding } from "../tensor/encoding.ts";
import type { HfConfig } from "./hf-config.ts";

/** Random access to bytes: a file, a Blob, an array in memory. */
export type ByteSource = {
  /** For messages: the file's name, without its folder. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Fills all of `into` with the bytes from `offset` on. Throws FormatError if the source ends before. */
  read(offset: number, into: Uint8Array): Promise<void>;
};

/** A tensor in a file: a matrix (rows, cols) or a vector (cols), row after row. */
export type TensorEntry = {
  /** Hugging Face's name, such as `model.layers.0.self_attn.q_proj.weight`. */
  readonly name: string;
  /** As Hugging Face has it: (outputs, inputs) for a matrix. */
  readonly shape: readonly number[];
  readonly encoding: Encoding;
  /** Gives the rows in Hugging Face's order, whatever the file's. */
  readonly source: ByteSource;
  /** The first byte's place in the source. */
  readonly offset: number;
  readonly byteLength: number;
};

/** The tokenizer's files, as bytes read when asked for. */
export type TokenizerFiles =
  | { readonly kind: "none" }
  | {
      readonly kind: "files";
      readonly tokenizerJson?: Uint8Array;
      readonly sentencePieceModel?: Uint8Array;
      /** Parsed tokenizer_config.json: chat_template, add_bos_token, … */
      readonly config: Readonly<Record<string, unknown>>;
    }
  | { readonly kind: "gguf"; readonly metadata: ReadonlyMap<string, unknown> };

export type Checkpoint = {
  readonly format: "safetensors" | "pytorch" | "gguf";
  /** For messages and reports: the folder's or file's name. */
  readonly name: string;
  readonly config: HfConfig;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly tokenizer: TokenizerFiles;
  /** Closes files. */
  close(): Promise<void>;
};

/** Reads a whole tensor. */
export async function readTensor(entry: TensorEntry): Promise<Uint8Array> {
  const bytes = new Uint8Array(entry.byteLength);
  await entry.source.read(entry.offset, bytes);
  return bytes;
}

/** A source over bytes in memory. */
export function bytesSource(name: string, bytes: Uint8Array | Blob): ByteSource {
  const size = bytes instanceof Uint8Array ? bytes.length : bytes.size;
  return {
    name,
    size,
    async read(offset, into) {
      const end = offset + into.length;
      if (end > size) throw new FormatError(`${name}: ends at byte ${size}, ${end} were required. Download it again.`);
      const part = bytes instanceof Uint8Array ? bytes.subarray(offset, end) : await readBlob(bytes, offset, end);
      into.set(part);
    },
  };
}

async function readBlob(blob: Blob, start: number, end: number): Promise<Uint8Array> {
  return new Uint8Array(await blob.slice(start, end).arrayBuffer());
}
