/**
 * A checkpoint as another file shall hold it: which tensors, from which, in which encoding. Reads no weights until a
 * tensor's turn comes, and then that one only.
 */
import { type Checkpoint, matrixOf, readTensor, type TensorEntry } from "../formats/checkpoint.ts";
import type { HfConfig } from "../formats/hf-config.ts";
import { modelTensors } from "../formats/model-tensors.ts";
import type { FloatEncoding } from "../formats/safetensors.ts";
import { checkConfig, fromHfConfig, type Sharing } from "../model/config.ts";
import { keptAs } from "../model/kept-as.ts";
import { createSchedule } from "../model/schedule.ts";
import { decodeBlocks, encodeBlocks } from "../tensor/blocks.ts";
import { blockLayout, type Encoding, rowBytes } from "../tensor/encoding.ts";

/** The dtypes that a file can be converted to. */
export const targetDtypes = ["f32", "f16", "bf16", "q8", "q4"] as const;
/** One of the dtypes that a file can be converted to. */
export type TargetDtype = (typeof targetDtypes)[number];

/** What the other file shall be; `safetensors` is a Hugging Face folder. */
export type PlanOptions<Format extends "gguf" | "safetensors"> = {
  readonly format: Format;
  /** How matrices are written. Default: each as the checkpoint has it, where `format` can hold that; else F32. */
  readonly dtype?: TargetDtype | undefined;
  /** Layer sharing. Default: the config's. */
  readonly sharing?: Sharing | undefined;
};

/** A tensor to write, in Hugging Face's row order. */
export type PlannedTensor<To extends Encoding = Encoding> = {
  readonly name: string;
  readonly shape: readonly number[];
  readonly encoding: To;
  readonly source: TensorEntry;
};

/** A tensor that was written: its name and row order are Hugging Face's. */
export type ConvertedTensor = {
  readonly name: string;
  readonly shape: readonly number[];
  readonly from: Encoding;
  readonly to: Encoding;
};

/** All that is decided before a byte is read. */
export type ConvertPlan<To extends Encoding = Encoding> = {
  /** What the written model says of itself; never layer-shared. */
  readonly config: HfConfig;
  /** The tensors in the order of the forward pass. */
  readonly tensors: readonly PlannedTensor<To>[];
  /** What the user should know, a sentence each. */
  readonly notes: readonly string[];
};

/**
 * Decides on every tensor; a layer-shared model becomes one whose blocks are each applied once.
 * @throws {RangeError} if the target can't express the model or the dtype.
 */
export function planConversion(checkpoint: Checkpoint, options: PlanOptions<"safetensors">): ConvertPlan<FloatEncoding>;
export function planConversion(checkpoint: Checkpoint, options: PlanOptions<"gguf">): ConvertPlan;
export function planConversion(checkpoint: Checkpoint, options: PlanOptions<"gguf" | "safetensors">): ConvertPlan {
  const { format, dtype } = options;
  const { config, blocks } = unshare(checkpoint.config, options.sharing);
  if (format === "gguf" && config.hidden_act !== "silu") {
    throw new RangeError(
      `convert: a GGUF llama's feed-forward is SwiGLU (silu), got ${config.hidden_act}. Convert to a folder instead.`,
    );
  }
  if (format === "gguf" && config.qk_norm) {
    throw new RangeError(
      "convert: a GGUF llama has no norms of query and key heads (QK-norm), got a model that does. Convert to a folder instead.",
    );
  }
  if (format === "safetensors" && (dtype === "q8" || dtype === "q4")) {
    throw new RangeError(`convert: a folder takes f32, f16 or bf16, got ${dtype}. Name a .gguf file for it.`);
  }
  const tensors = modelTensors(config).map(({ name, shape }): PlannedTensor => {
    const source = checkpoint.tensors.get(sourceName(name, blocks));
    if (source === undefined) throw new RangeError(`convert: ${checkpoint.name} has no tensor for ${name}.`);
    const encoding = format === "gguf" ? ggufEncoding(name, shape, source, dtype) : hfEncoding(source, dtype);
    return { name, shape, encoding, source };
  });
  return { config, tensors, notes: [...sharingNotes(checkpoint.config, config), ...widthNotes(tensors, dtype)] };
}

/** The blocks in the order of application, and the config of a model that has them all. */
function unshare(
  hf: HfConfig,
  sharing: Sharing | undefined,
): { readonly config: HfConfig; readonly blocks: readonly number[] } {
  const own = fromHfConfig(hf);
  const config = { ...own, sharing: sharing ?? own.sharing };
  checkConfig(config);
  const schedule = createSchedule(config);
  if (schedule.some(({ writesCache }) => !writesCache)) {
    throw new RangeError(
      'convert: layer sharing must have cache "own" to be written as plain blocks, got "first": a block that reads another\'s keys and values is no Llama block.',
    );
  }
  return {
    config: { ...hf, num_hidden_layers: schedule.length, layer_sharing: false, sharing_schedule: undefined },
    blocks: schedule.map(({ block }) => block),
  };
}

function sourceName(name: string, blocks: readonly number[]): string {
  return name.replace(/^model\.layers\.(\d+)\./, (_, layer: string) => `model.layers.${blocks[Number(layer)]!}.`);
}

/** Vectors (norm gains) are F32, as llama.cpp wants them. In `q4` the embedding and the head keep 8 bits, as in memory. */
function ggufEncoding(
  name: string,
  shape: readonly number[],
  source: TensorEntry,
  dtype: TargetDtype | undefined,
): Encoding {
  if (shape.length === 1) return "F32";
  switch (dtype) {
    case undefined:
      return source.encoding;
    case "f32":
      return "F32";
    case "f16":
      return "F16";
    case "bf16":
      return "BF16";
    case "q8":
    case "q4":
      return wholeBlocks(keptAs(name, dtype) === "q4" ? "Q4_1" : "Q8_0", shape);
  }
}

function wholeBlocks(encoding: Encoding, shape: readonly number[]): Encoding {
  return matrixOf(shape).cols % blockLayout[encoding].elements === 0 ? encoding : "F16";
}

function hfEncoding({ encoding }: TensorEntry, dtype: TargetDtype | undefined): FloatEncoding {
  if (dtype === "f16") return "F16";
  if (dtype === "bf16") return "BF16";
  return dtype === undefined && (encoding === "F16" || encoding === "BF16") ? encoding : "F32";
}

function sharingNotes(before: HfConfig, after: HfConfig): string[] {
  if (before.num_hidden_layers === after.num_hidden_layers) return [];
  return [
    `Layer sharing is written out: ${before.num_hidden_layers} shared blocks become ${after.num_hidden_layers} plain ones.`,
  ];
}

function widthNotes(tensors: readonly PlannedTensor[], dtype: TargetDtype | undefined): string[] {
  if (dtype !== "q8" && dtype !== "q4") return [];
  const wide = tensors.filter(({ encoding }) => encoding === "F16");
  if (wide.length === 0) return [];
  const widths = [...new Set(wide.map(({ shape }) => matrixOf(shape).cols))].join(", ");
  const what = wide.length === 1 ? "1 tensor is" : `${wide.length} tensors are`;
  return [`${what} F16, since a row of ${dtype} holds whole blocks of 32: width ${widths}.`];
}

/** Values decoded at a time. */
const PIECE_ELEMENTS = 1 << 18;

/**
 * Reads a tensor and encodes it; one that has the encoding already is copied bit for bit.
 * @param measure gets the values before and after, piece by piece.
 * @throws {RangeError} for values that the encoding can't hold.
 */
export async function convertTensor(
  { name, shape, encoding, source }: PlannedTensor,
  measure?: (before: Float32Array, after: Float32Array) => void,
): Promise<Uint8Array> {
  const { rows, cols } = matrixOf(shape);
  const stored = await readTensor(source);
  if (source.encoding === encoding && measure === undefined) return stored;

  const from = rowBytes(source.encoding, cols);
  const to = rowBytes(encoding, cols);
  const written = source.encoding === encoding ? stored : new Uint8Array(rows * to);
  const step = Math.max(1, Math.floor(PIECE_ELEMENTS / cols));
  for (let start = 0; start < rows; start += step) {
    const end = Math.min(rows, start + step);
    const before = new Float32Array((end - start) * cols);
    decodeBlocks(source.encoding, stored.subarray(start * from, end * from), before);
    if (written !== stored) {
      try {
        written.set(encodeBlocks(encoding, before, cols), start * to);
      } catch (cause) {
        throw new RangeError(`convert: tensor ${name}: ${(cause as Error).message}`, { cause });
      }
    }
    if (measure === undefined) continue;
    const after = new Float32Array(before.length);
    decodeBlocks(encoding, written.subarray(start * to, end * to), after);
    measure(before, after);
  }
  return written;
}
