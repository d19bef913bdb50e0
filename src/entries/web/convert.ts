/**
 * mobilellm/convert in a browser or any other runtime with web APIs: models from bytes to bytes, in another format or
 * encoding. Node has an entry of its own (entries/node/convert.ts), which adds paths and the Hub.
 */
import {
  conversionEntries,
  type Conversion,
  type ConversionSettings,
  type FileToMake,
  planFiles,
  planQuantization,
  type Quantization,
} from "../../conversion/convert.ts";
import { tokenizerWithFiles } from "../../conversion/tokenizer.ts";
import { useCheckpoint } from "../../edge/use-checkpoint.ts";
import * as o from "../../options.ts";
import type { Checkpoint } from "../../formats/checkpoint.ts";
import { isObject } from "../../errors.ts";
import { type ModelBytes, openBytes } from "../../formats/open-bytes.ts";

export * from "../shared/convert.ts";

/** What is converted: the bytes of a model as `loadModel` takes them, or an open checkpoint such as `trainer.checkpoint()` gives. */
export type ConvertSource = ModelBytes | Checkpoint;

/** What to convert, and into which format. */
export type ConvertOptions = ConversionSettings & {
  readonly model: ConvertSource;
  /** `gguf`: one file, `model.gguf`; `safetensors`: the files of a Hugging Face folder. */
  readonly format: "gguf" | "safetensors";
};

/** What to quantize, and to how many bits. */
export type QuantizeOptions = ConversionSettings & {
  readonly model: ConvertSource;
  /** q8: Q8_0; q4: Q4_1, with Q8_0 for embedding and head. */
  readonly dtype: "q8" | "q4";
};

const modelSchema = o.thing<ConvertSource>("the bytes of a model, or an open checkpoint", isObject);
const convertSchema: o.Schema<ConvertOptions> = o.object<ConvertOptions>({
  ...conversionEntries,
  model: modelSchema,
  format: o.choice("gguf", "safetensors"),
});
const quantizeSchema: o.Schema<QuantizeOptions> = o.object<QuantizeOptions>({
  ...conversionEntries,
  model: modelSchema,
  dtype: o.choice("q8", "q4"),
});

/** Files by name. */
export type ConvertedFiles = Readonly<Record<string, Uint8Array<ArrayBuffer>>>;

/**
 * Writes a model in another format or encoding; a layer-shared one becomes plain blocks.
 * @example const { files } = await convert({ model: await trainer.checkpoint(), format: "gguf", dtype: "q8" });
 * @throws {RangeError} if the format can't express the model or the dtype, {FormatError} for damaged files.
 */
export async function convert(options: ConvertOptions): Promise<Conversion & { readonly files: ConvertedFiles }> {
  const { model, format, ...settings } = o.check("convert", convertSchema, options);
  return useCheckpoint(model, openBytes, async (checkpoint) => {
    const { files, tensors, notes } = planFiles(checkpoint, format, settings);
    const made: Record<string, Uint8Array<ArrayBuffer>> = {};
    for (const file of files) made[file.name] = await bytesOf(file);
    return { files: made, tensors, notes };
  });
}

/**
 * Writes a GGUF file of 8 or 4 bits a weight, and says how far each tensor is from what it was.
 * @example const { file, total } = await quantize({ model: bytes, dtype: "q4" });
 * @throws {RangeError} if GGUF can't express the model, {FormatError} for damaged files.
 */
export async function quantize(
  options: QuantizeOptions,
): Promise<Quantization & { readonly file: Uint8Array<ArrayBuffer> }> {
  const { model, ...settings } = o.check("quantize", quantizeSchema, options);
  return useCheckpoint(model, openBytes, async (checkpoint) => {
    const { files, report } = planQuantization(checkpoint, settings);
    const file = await bytesOf(files[0]);
    return { file, ...report() };
  });
}

/**
 * Gives a model's tokenizer as the files that transformers reads (tokenizer.json or tokenizer.model, tokenizer_config.json),
 * translated where it comes out of a GGUF file.
 * @example const { files, notes } = await exportTokenizer({ model: ggufBytes });
 * @throws {FormatError} if the model has no tokenizer, or one that fits into no file.
 */
export async function exportTokenizer(options: {
  readonly model: ConvertSource;
}): Promise<{ readonly files: Readonly<Record<string, Uint8Array>>; readonly notes: readonly string[] }> {
  const { model } = o.check("exportTokenizer", o.object<typeof options>({ model: modelSchema }), options);
  return useCheckpoint(model, openBytes, async ({ tokenizer, name }) => {
    const { files, notes } = tokenizerWithFiles(tokenizer, name);
    return { files: Object.fromEntries(files), notes };
  });
}

async function bytesOf(file: FileToMake): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  await file.write({ write: async (part) => void parts.push(part as Uint8Array<ArrayBuffer>) });
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
