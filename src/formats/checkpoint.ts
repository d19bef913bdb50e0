/**
 * What every file format is read into: a config in Hugging Face's words and tensors under Hugging Face's names, each
 * a byte range of some source. Nothing here holds weights in memory.
 */
import type { Encoding } from "../tensor/encoding.ts";
import type { ByteSource } from "./bytes.ts";
import type { HfConfig } from "./hf-config.ts";

/** A tensor in a file: a matrix (rows, cols) or a vector (cols), row after row. */
export type TensorEntry = {
  /** Hugging Face's name, such as `model.layers.0.self_attn.q_proj.weight`. */
  readonly name: string;
  /** Sizes in Hugging Face's order: (outputs, inputs) for a matrix. */
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

/** A model in files: what its config says, where each tensor lies, and its tokenizer's files. */
export type Checkpoint = {
  readonly format: "safetensors" | "pytorch" | "gguf";
  /** The folder's or file's name, for messages and reports. */
  readonly name: string;
  readonly config: HfConfig;
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly tokenizer: TokenizerFiles;
  /** Closes the files; tensors can't be read any more. */
  close(): Promise<void>;
};

/** Reads a whole tensor: `byteLength` bytes, its rows in Hugging Face's order. */
export async function readTensor(entry: TensorEntry): Promise<Uint8Array> {
  const bytes = new Uint8Array(entry.byteLength);
  await entry.source.read(entry.offset, bytes);
  return bytes;
}

/** A tensor as rows and columns; a vector is one row. */
export function matrixOf(shape: readonly number[]): { readonly rows: number; readonly cols: number } {
  return { rows: elementCount(shape.slice(0, -1)), cols: shape.at(-1) ?? 1 };
}

/** The product of a shape's sizes: exact up to 2⁵³, and beyond that too large to fit any file, which is all that is asked. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}
