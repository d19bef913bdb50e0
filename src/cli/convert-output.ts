/** Writes converted models: one tensor in memory at a time, and each file whole or not at all. */
import { mkdir, readdir, realpath, rm, rmdir, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import type { Checkpoint } from "../formats/checkpoint.ts";
import { writeGguf } from "../formats/gguf/gguf-write.ts";
import { writeHfConfig } from "../formats/hf-config.ts";
import { printJson } from "../formats/json.ts";
import { writeAtomically } from "../formats/node-files.ts";
import { type FloatEncoding, writeSafetensors } from "../formats/safetensors.ts";
import { type ConvertPlan, convertTensor, type PlannedTensor } from "../quantization/convert.ts";
import { ggufTokenizer, hfTokenizer } from "./convert-tokenizer.ts";
import { UsageError } from "./usage.ts";

export type OutputOptions = {
  /** Reads and encodes a tensor. Default: `convertTensor`. */
  readonly convert?: (tensor: PlannedTensor) => Promise<Uint8Array>;
  /** Called as tensors get done, with a number from 0 to 1. */
  readonly onProgress?: (fraction: number) => void;
  readonly signal: AbortSignal;
};

export function isGgufPath(path: string): boolean {
  return path.toLowerCase().endsWith(".gguf");
}

/**
 * Nothing is overwritten unasked, the model that is read never, and no folder becomes a file.
 * @throws {UsageError} saying what is in the way.
 */
export async function checkOutput(command: string, model: string, out: string, force: boolean): Promise<void> {
  const status = await stat(out).catch(() => undefined);
  if (status === undefined) return;
  const input = await realpath(model).catch(() => undefined); // a Hub id is no path
  if (input === (await realpath(out)))
    throw new UsageError(`${command}: ${out} is the model itself. Choose another name.`);
  if (status.isDirectory() === isGgufPath(out)) {
    throw new UsageError(`${command}: ${out} is a ${status.isDirectory() ? "folder" : "file"}. Choose another name.`);
  }
  if (force || (status.isDirectory() && (await readdir(out)).length === 0)) return;
  throw new UsageError(`${command}: ${out} exists. Pass --force to overwrite it.`);
}

/** Writes a GGUF file. Returns sentences for the user. */
export async function writeGgufFile(
  checkpoint: Checkpoint,
  { config, tensors }: ConvertPlan,
  out: string,
  { convert = convertTensor, onProgress, signal }: OutputOptions,
): Promise<string[]> {
  const { metadata, note } = ggufTokenizer(checkpoint.tokenizer, config);
  await writeAtomically(out, (sink) =>
    writeGguf({
      sink,
      config,
      tensors: tensors.map((tensor) => ({ ...tensor, bytes: () => convert(tensor) })),
      tokenizer: metadata,
      name: basename(checkpoint.name, ".gguf"),
      onProgress: (written, total) => onProgress?.(written / total),
      signal,
    }),
  );
  return note === undefined ? [] : [note];
}

/** Files beside the weights that say something about the model; those of another model must not stay. */
const companions = [
  "tokenizer.json",
  "tokenizer.model",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
  "generation_config.json",
];

/** Writes a folder in Hugging Face's layout. Returns sentences for the user. */
export async function writeHfFolder(
  checkpoint: Checkpoint,
  { config, tensors }: ConvertPlan<FloatEncoding>,
  out: string,
  { convert = convertTensor, onProgress, signal }: OutputOptions,
): Promise<string[]> {
  const created = await mkdir(out, { recursive: true });
  try {
    let done = 0;
    await writeAtomically(join(out, "model.safetensors"), (sink) =>
      writeSafetensors(
        sink,
        tensors.map((tensor) => ({
          ...tensor,
          bytes: () => {
            signal.throwIfAborted();
            onProgress?.(done++ / tensors.length);
            return convert(tensor);
          },
        })),
      ),
    );
  } catch (error) {
    if (created !== undefined) await rmdir(resolve(out)).catch(() => {});
    throw error;
  }
  for (const name of companions) await rm(join(out, name), { force: true });
  const json = writeHfConfig(config, { torch_dtype: torchDtype(tensors) });
  const { files, note } = hfTokenizer(checkpoint.tokenizer);
  const all = [...files, ["config.json", new TextEncoder().encode(printJson(json))] as const];
  for (const [name, bytes] of all) await writeAtomically(join(out, name), (sink) => sink.write(bytes));
  return note === undefined ? [] : [note];
}

/** transformers loads everything in this; F32 holds whatever a mixed file has. */
function torchDtype(tensors: readonly PlannedTensor<FloatEncoding>[]): string {
  const [encoding, ...others] = new Set(tensors.map((tensor) => tensor.encoding));
  if (others.length > 0) return "float32";
  return encoding === "BF16" ? "bfloat16" : encoding === "F16" ? "float16" : "float32";
}
