/** Which tensors a config asks for, and whether a checkpoint has them. Every file format passes through this check. */
import { FormatError } from "../errors.ts";
import { elementCount, type TensorEntry } from "./checkpoint.ts";
import type { HfConfig } from "./hf-config.ts";

const EMBEDDING = "model.embed_tokens.weight";
const HEAD = "lm_head.weight";

/** Gives names and shapes in the order of the forward pass: embedding, blocks, final norm, and the head unless it is tied. */
export function requiredTensors(config: HfConfig): Map<string, readonly number[]> {
  const dim = config.hidden_size;
  const queries = config.num_attention_heads * config.head_dim;
  const keys = config.num_key_value_heads * config.head_dim;
  const hidden = config.intermediate_size;
  const shapes = new Map<string, readonly number[]>([[EMBEDDING, [config.vocab_size, dim]]]);
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const add = (name: string, ...shape: number[]): void =>
      void shapes.set(`model.layers.${layer}.${name}.weight`, shape);
    add("input_layernorm", dim);
    add("self_attn.q_proj", queries, dim);
    add("self_attn.k_proj", keys, dim);
    add("self_attn.v_proj", keys, dim);
    add("self_attn.o_proj", dim, queries);
    add("post_attention_layernorm", dim);
    if (config.hidden_act === "silu") add("mlp.gate_proj", hidden, dim);
    add("mlp.up_proj", hidden, dim);
    add("mlp.down_proj", dim, hidden);
  }
  shapes.set("model.norm.weight", [dim]);
  if (!config.isTied) shapes.set(HEAD, [config.vocab_size, dim]);
  return shapes;
}

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
  const required = requiredTensors(settled);

  const found = new Map<string, TensorEntry>();
  for (const [name, shape] of required) {
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
    if (required.has(name) || name === HEAD || name.endsWith("rotary_emb.inv_freq")) continue;
    throw new FormatError(
      `${file}: tensor ${name} (${elementCount(entry.shape)} elements) is not one that config.json asks for. Leaving it out would change results.`,
    );
  }
  return { config: settled, tensors: found };
}
