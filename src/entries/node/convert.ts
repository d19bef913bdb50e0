/** mobilellm/convert in Node: models from paths, the Hub or bytes to files, in another format or encoding. */
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import {
  conversionEntries,
  type Conversion,
  type ConversionSettings,
  planFiles,
  planQuantization,
  type Quantization,
} from "../../conversion/convert.ts";
import { isGgufPath, refuseSamePlace, writePlannedFiles } from "../../conversion/node-write.ts";
import { tokenizerWithFiles } from "../../conversion/tokenizer.ts";
import { openSource } from "../../edge/node-open.ts";
import { useCheckpoint } from "../../edge/use-checkpoint.ts";
import * as o from "../../options.ts";
import type { Checkpoint } from "../../formats/checkpoint.ts";
import { isObject } from "../../errors.ts";
import { writeAtomically } from "../../formats/node-files.ts";
import { type HubOptions, hubSchema } from "../../formats/node-hub.ts";
import type { ModelBytes } from "../../formats/open-bytes.ts";

export * from "../shared/convert.ts";

/** Where a model comes from, and where the result goes. */
type Places = {
  /** A folder, a .gguf file or a Hub id, the bytes of a model, or an open checkpoint such as `trainer.checkpoint()` gives. */
  readonly model: string | ModelBytes | Checkpoint;
  /** What is there is replaced. */
  readonly out: string;
  /** How to reach the Hub: token, endpoint, cacheDir, offline. Default: Hugging Face's environment variables. */
  readonly hub?: HubOptions | undefined;
};
const placeEntries: o.Entries<Places> = {
  model: o.thing("a path, the bytes of a model, or an open checkpoint", (it) => typeof it === "string" || isObject(it)),
  out: o.text,
  hub: o.optional(hubSchema),
};

/** What to convert, and where to: a name that ends in .gguf, or else a folder in Hugging Face's layout. */
export type ConvertOptions = Places & ConversionSettings;

/** What to quantize, to how many bits, and where to: a name that ends in .gguf. */
export type QuantizeOptions = Places &
  ConversionSettings & {
    /** q8: Q8_0; q4: Q4_1, with Q8_0 for embedding and head. */
    readonly dtype: "q8" | "q4";
  };

const convertSchema: o.Schema<ConvertOptions> = o.object<ConvertOptions>({ ...placeEntries, ...conversionEntries });
const quantizeSchema: o.Schema<QuantizeOptions> = o.object<QuantizeOptions>({
  ...placeEntries,
  ...conversionEntries,
  dtype: o.choice("q8", "q4"),
});

/**
 * Writes a model in another format or encoding; a layer-shared one becomes plain blocks. Each file is whole or not there.
 * @example const { notes } = await convert({ model: "models/MobileLLM-125M", out: "model.gguf", dtype: "q8" });
 * @throws {RangeError} if the format can't express the model or the dtype, {FormatError} for damaged files.
 */
export async function convert(options: ConvertOptions): Promise<Conversion> {
  const { model, out, hub, ...settings } = o.check("convert", convertSchema, options);
  await refuseSamePlace("convert", model, out);
  return useCheckpoint(model, opener(hub, settings), async (checkpoint) => {
    const plan = planFiles(checkpoint, isGgufPath(out) ? "gguf" : "safetensors", settings);
    await writePlannedFiles(plan, out);
    return { tensors: plan.tensors, notes: plan.notes };
  });
}

/**
 * Writes a GGUF file of 8 or 4 bits a weight, and says how far each tensor is from what it was.
 * @example const { total } = await quantize({ model: "models/MobileLLM-125M", out: "model.gguf", dtype: "q4" });
 * @throws {RangeError} if GGUF can't express the model, {FormatError} for damaged files.
 */
export async function quantize(options: QuantizeOptions): Promise<Quantization> {
  const { model, out, hub, ...settings } = o.check("quantize", quantizeSchema, options);
  if (!isGgufPath(out)) throw new RangeError(`quantize: out: a name that ends in .gguf was required, got ${out}.`);
  await refuseSamePlace("quantize", model, out);
  return useCheckpoint(model, opener(hub, settings), async (checkpoint) => {
    const plan = planQuantization(checkpoint, settings);
    await writePlannedFiles(plan, out);
    return plan.report();
  });
}

/**
 * Writes a model's tokenizer as the files that transformers reads (tokenizer.json or tokenizer.model, tokenizer_config.json)
 * into the folder `out`, translated where it comes out of a GGUF file.
 * @example const { files } = await exportTokenizer({ model: "model.gguf", out: "tokenizer" });
 * @throws {FormatError} if the model has no tokenizer, or one that fits into no file.
 */
export async function exportTokenizer(
  options: Places,
): Promise<{ readonly files: readonly string[]; readonly notes: readonly string[] }> {
  const { model, out, hub } = o.check("exportTokenizer", o.object<Places>(placeEntries), options);
  return useCheckpoint(model, opener(hub, {}), async ({ tokenizer, name }) => {
    const { files, notes } = tokenizerWithFiles(tokenizer, name);
    await mkdir(out, { recursive: true });
    for (const [file, bytes] of files) await writeAtomically(join(out, file), (sink) => sink.write(bytes));
    return { files: [...files.keys()], notes };
  });
}

function opener(hub: HubOptions | undefined, { signal }: ConversionSettings) {
  return (source: string | ModelBytes): Promise<Checkpoint> => openSource(source, { signal, ...hub });
}
