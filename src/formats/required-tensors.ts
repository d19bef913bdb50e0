/** Whether a checkpoint has the tensors that its config asks for. Every file format passes through this check. */
import { FormatError } from "../errors.ts";
import { elementCount, type TensorEntry } from "./checkpoint.ts";
import type { HfConfig } from "./hf-config.ts";
import { EMBEDDING, HEAD, modelTensors } from "./model-tensors.ts";

/**
 * Checks names and shapes and settles the embedding and the head: afterwards `model.embed_tokens.weight` is there, and
 * `lm_head.weight` exactly if `config.isTied` is false.
 *
 * Some converted MobileLLM files kept `lm_head.weight` and dropped the embedding that shares its storage; loaders that
 * then start from a random embedding get a perplexity of 39,105. So whichever of the two is there serves as both.
 * @param file for messages
 */
export function checkTensors(
  config: HfConfig,
  tensors: ReadonlyMap<string, TensorEntry>,
  file: string,
): { readonly config: HfConfig; readonly tensors: ReadonlyMap<string, TensorEntry> } {
  const embedding = tensors.get(EMBEDDING);
  const head = tensors.get(HEAD);
  const single = embedding ?? head;
  if (single === undefined) {
    throw new FormatError(`${file}: ${EMBEDDING} or ${HEAD} was required, got neither. Is this a language model?`);
  }
  const isTied = config.isTied || embedding === undefined || head === undefined;
  const settled = { ...config, isTied };
  const required = modelTensors(settled);

  const found = new Map<string, TensorEntry>();
  for (const { name, shape } of required) {
    const entry = name === EMBEDDING ? { ...single, name } : tensors.get(name);
    if (entry === undefined) {
      throw new FormatError(
        `${file}: tensor ${name} was required, but is missing. Does config.json belong to this file?`,
      );
    }
    if (entry.shape.length !== shape.length || shape.some((size, axis) => size !== entry.shape[axis])) {
      throw new FormatError(
        `${file}: tensor ${name} must have shape [${shape.join(", ")}], got [${entry.shape.join(", ")}]. Does config.json belong to this file?`,
      );
    }
    found.set(name, entry);
  }
  for (const [name, entry] of tensors) {
    if (found.has(name) || name === HEAD || name.endsWith("rotary_emb.inv_freq")) continue;
    throw new FormatError(
      `${file}: tensor ${name} (${elementCount(entry.shape)} elements) is not one that config.json asks for. Leaving it out would change results.`,
    );
  }
  return { config: settled, tensors: found };
}
