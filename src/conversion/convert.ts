/**
 * A converted model as files, each written from beginning to end with one tensor in memory at a time. Where the files go
 * (a folder, arrays) is for the entries.
 */
import * as o from "../options.ts";
import type { ByteSink } from "../formats/bytes.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import { writeGguf } from "../formats/gguf/gguf-write.ts";
import { writeHfConfig } from "../formats/hf-config.ts";
import { printJson } from "../formats/json.ts";
import { type FloatEncoding, writeSafetensors } from "../formats/safetensors.ts";
import { type Sharing, sharingSchema } from "../model/config.ts";
import { createErrorMeter, type ErrorReport } from "./error-report.ts";
import {
  type ConvertedTensor,
  convertTensor,
  planConversion,
  type PlannedTensor,
  type TargetDtype,
  targetDtypes,
} from "./plan.ts";
import { ggufTokenizer, hfTokenizer } from "./tokenizer.ts";

/** What is the same for every conversion, wherever its files go. */
export type ConversionSettings = {
  /** How matrices are written; q8 and q4 for GGUF alone. Default: each as the model has it, where the format can hold that, else f32. */
  readonly dtype?: TargetDtype | undefined;
  /** Layer sharing, which is written out as plain blocks. Default: the model's own. */
  readonly sharing?: Sharing | undefined;
  /** Called as tensors get done, with a number from 0 to 1. */
  readonly onProgress?: ((fraction: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** What a conversion made. */
export type Conversion = {
  /** The tensors in the order of the forward pass. */
  readonly tensors: readonly ConvertedTensor[];
  /** What there is to know about the result, a sentence each. */
  readonly notes: readonly string[];
};

/** What a quantization made: each tensor with how far it is from what it was. */
export type Quantization = Pick<Conversion, "notes"> & ErrorReport;

/** A file that is still to be written. */
export type FileToMake = { readonly name: string; readonly write: (sink: ByteSink) => Promise<void> };

/** The files of a converted model, the one with the weights first. */
export type PlannedFiles = Conversion & { readonly files: readonly [FileToMake, ...FileToMake[]] };

/** What each of the settings may be. */
export const conversionEntries: o.Entries<ConversionSettings> = {
  dtype: o.optional(o.choice(...targetDtypes)),
  sharing: o.optional(sharingSchema),
  onProgress: o.optional(o.callback()),
  signal: o.optional(o.signal),
};

/**
 * Says which files a model becomes: `model.gguf`, or those of a Hugging Face folder. Reads no weights yet.
 * @throws {RangeError} if the format can't express the model or the dtype.
 */
export function planFiles(
  checkpoint: Checkpoint,
  format: "gguf" | "safetensors",
  settings: ConversionSettings,
): PlannedFiles {
  return format === "gguf" ? planGguf(checkpoint, settings, convertTensor) : planFolder(checkpoint, settings);
}

/** Says as `planFiles` does how a model becomes a GGUF file of 8 or 4 bits a weight; `report` is whole when that is written. */
export function planQuantization(
  checkpoint: Checkpoint,
  settings: ConversionSettings & { readonly dtype: "q8" | "q4" },
): PlannedFiles & { readonly report: () => Quantization } {
  const meter = createErrorMeter();
  const plan = planGguf(checkpoint, settings, meter.convert);
  return { ...plan, report: () => ({ notes: plan.notes, ...meter.report() }) };
}

function planGguf(
  checkpoint: Checkpoint,
  settings: ConversionSettings,
  encode: (tensor: PlannedTensor) => Promise<Uint8Array>,
): PlannedFiles {
  const { dtype, sharing, onProgress, signal } = settings;
  const { config, tensors, notes } = planConversion(checkpoint, { format: "gguf", dtype, sharing });
  const { metadata, note } = ggufTokenizer(checkpoint.tokenizer, config);
  const write = async (sink: ByteSink): Promise<void> => {
    await writeGguf({
      sink,
      config,
      tensors: tensors.map((tensor) => ({ ...tensor, bytes: () => encode(tensor) })),
      tokenizer: metadata,
      name: checkpoint.name.replaceAll(/^.*\/|\.gguf$/g, ""),
      onProgress: (written, total) => onProgress?.(written / total),
      ...(signal && { signal }),
    });
  };
  return { files: [{ name: "model.gguf", write }], tensors: tensors.map(asConverted), notes: withNote(notes, note) };
}

function planFolder(checkpoint: Checkpoint, settings: ConversionSettings): PlannedFiles {
  const { dtype, sharing, onProgress, signal } = settings;
  const { config, tensors, notes } = planConversion(checkpoint, { format: "safetensors", dtype, sharing });
  const tokenizer = hfTokenizer(checkpoint.tokenizer);
  const json = writeHfConfig(config, { torch_dtype: torchDtype(tensors) });
  let done = 0;
  const bytes = (tensor: PlannedTensor): Promise<Uint8Array> => {
    signal?.throwIfAborted();
    onProgress?.(done++ / tensors.length);
    return convertTensor(tensor);
  };
  return {
    files: [
      {
        name: "model.safetensors",
        write: (sink) =>
          writeSafetensors(
            sink,
            tensors.map((tensor) => ({ ...tensor, bytes: () => bytes(tensor) })),
          ),
      },
      ...Array.from(tokenizer.files, ([name, content]) => fileOf(name, content)),
      fileOf("config.json", new TextEncoder().encode(printJson(json))),
    ],
    tensors: tensors.map(asConverted),
    notes: withNote(notes, tokenizer.note),
  };
}

function fileOf(name: string, content: Uint8Array): FileToMake {
  return { name, write: (sink) => sink.write(content) };
}

function asConverted({ name, shape, source, encoding }: PlannedTensor): ConvertedTensor {
  return { name, shape, from: source.encoding, to: encoding };
}

function withNote(notes: readonly string[], note: string | undefined): readonly string[] {
  return note === undefined ? notes : [...notes, note];
}

/** transformers loads everything in this; F32 holds whatever a mixed file has. */
function torchDtype(tensors: readonly PlannedTensor<FloatEncoding>[]): string {
  const [encoding, ...others] = new Set(tensors.map((tensor) => tensor.encoding));
  if (others.length > 0) return "float32";
  return encoding === "BF16" ? "bfloat16" : encoding === "F16" ? "float16" : "float32";
}
