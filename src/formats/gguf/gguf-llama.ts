/**
 * The `llama` architecture in GGUF (ggml-org/llama.cpp, src/llama-arch.cpp): names, metadata and config, to and from
 * Hugging Face's words.
 */
import { describe, FormatError } from "../../errors.ts";
import { type Encoding, rowBytes } from "../../tensor/encoding.ts";
import type { ByteSource } from "../bytes.ts";
import { type Checkpoint, matrixOf, type TensorEntry, type TokenizerFiles } from "../checkpoint.ts";
import type { HfConfig } from "../hf-config.ts";
import { modelTensors } from "../model-tensors.ts";
import { readGgufHeader, type GgufTensorInfo } from "./gguf-read.ts";
import { plainMetadata, type GgufMetadata, type GgufValue } from "./gguf-types.ts";
import { restoreRotaryRows, type RotaryMatrix } from "./rotary-rows.ts";

/** What follows `model.layers.N.` and `blk.N.`. */
const blockNames: readonly (readonly [hf: string, gguf: string])[] = [
  ["input_layernorm.weight", "attn_norm.weight"],
  ["self_attn.q_proj.weight", "attn_q.weight"],
  ["self_attn.k_proj.weight", "attn_k.weight"],
  ["self_attn.v_proj.weight", "attn_v.weight"],
  ["self_attn.o_proj.weight", "attn_output.weight"],
  ["post_attention_layernorm.weight", "ffn_norm.weight"],
  ["mlp.gate_proj.weight", "ffn_gate.weight"],
  ["mlp.up_proj.weight", "ffn_up.weight"],
  ["mlp.down_proj.weight", "ffn_down.weight"],
];
const toGguf = new Map(blockNames);
const otherNames = new Map([
  ["model.embed_tokens.weight", "token_embd.weight"],
  ["model.norm.weight", "output_norm.weight"],
  ["lm_head.weight", "output.weight"],
]);

/** Gives GGUF's name of a tensor that `modelTensors` names. */
export function ggufTensorName(hfName: string): string {
  const [, layer, rest] = /^model\.layers\.(\d+)\.(.+)$/.exec(hfName) ?? [];
  const name = rest === undefined ? otherNames.get(hfName) : toGguf.get(rest);
  if (name === undefined) throw new FormatError(`GGUF has no name for the tensor ${hfName}.`);
  return layer === undefined ? name : `blk.${layer}.${name}`;
}

/** How the rows of q_proj and k_proj, which GGUF stores as interleaved rotary pairs, lie in bytes; else undefined. */
export function rotaryMatrix(
  hfName: string,
  shape: readonly number[],
  encoding: Encoding,
  config: HfConfig,
): RotaryMatrix | undefined {
  if (!/\.self_attn\.[qk]_proj\.weight$/.test(hfName)) return undefined;
  return { rowBytes: rowBytes(encoding, matrixOf(shape).cols), headRows: config.head_dim };
}

/**
 * Opens a GGUF file of a Llama. Reads only the header. The source stays the caller's to close.
 * @throws {FormatError} for damaged files, other architectures, and whatever would make us compute something else.
 */
export async function openGguf(source: ByteSource): Promise<Checkpoint> {
  const { metadata, tensors: infos } = await readGgufHeader(source);
  const file = source.name;
  const keys = createLookup(file, metadata);
  refuseOtherModels(file, keys);

  const byName = new Map(infos.map((info) => [info.name, info]));
  const config = readConfig(keys, !byName.has("output.weight"));
  const tensors = nameTensors(source, config, byName);
  return {
    format: "gguf",
    name: file,
    config,
    tensors,
    tokenizer: readTokenizer(metadata),
    close: async () => {},
  };
}

/** Reads only the vocabulary: any architecture's, and that of a file without tensors. */
export async function openGgufTokenizer(source: ByteSource): Promise<TokenizerFiles> {
  return readTokenizer((await readGgufHeader(source)).metadata);
}

function readTokenizer(metadata: GgufMetadata): TokenizerFiles {
  const model = metadata.get("tokenizer.ggml.model")?.value;
  if (model === undefined || model === "none" || model === "no_vocab") return { kind: "none" };
  return { kind: "gguf", metadata: plainMetadata(metadata) };
}

function nameTensors(
  source: ByteSource,
  config: HfConfig,
  infos: ReadonlyMap<string, GgufTensorInfo>,
): Map<string, TensorEntry> {
  // 9 matrices a layer must be in the file: `block_count` can't make us list more than it holds.
  if (config.num_hidden_layers * blockNames.length > infos.size) {
    throw new FormatError(
      `${source.name}: llama.block_count is ${config.num_hidden_layers}, too many for the ${infos.size} tensors in the file. Download it again.`,
    );
  }
  const unused = new Map(infos);
  const tensors = new Map<string, TensorEntry>();
  for (const { name, shape } of modelTensors(config)) {
    const ggufName = ggufTensorName(name);
    const info = unused.get(ggufName);
    if (info === undefined) throw new FormatError(`${source.name}: tensor ${ggufName} is missing. Download it again.`);
    unused.delete(ggufName);
    if (info.shape.length !== shape.length || info.shape.some((size, axis) => size !== shape[axis])) {
      throw new FormatError(
        `${source.name}: tensor ${ggufName} must have shape [${shape.join(", ")}], got [${info.shape.join(", ")}] (at byte ${info.offset}). The metadata belong to another model.`,
      );
    }
    const { encoding, offset, byteLength } = info;
    const rotary = rotaryMatrix(name, shape, encoding, config);
    const inOrder = rotary === undefined ? source : restoreRotaryRows(source, offset, rotary);
    tensors.set(name, { name, shape, encoding, source: inOrder, offset, byteLength });
  }
  for (const { name, offset } of unused.values()) {
    throw new FormatError(
      `${source.name}: tensor ${name} is not part of a plain Llama (at byte ${offset}). Leaving it out would change results.`,
    );
  }
  return tensors;
}

/** Metadata that must have these values, or be absent, for the model to be the one that we compute. */
const neutralValues: readonly (readonly [key: string, ...allowed: unknown[]])[] = [
  ["split.count", 0, 1],
  ["llama.rope.scaling.type", "none"],
  ["llama.rope.scaling.factor", 0, 1],
  ["llama.rope.scaling.attn_factor", 0, 1],
  ["llama.rope.scale_linear", 0, 1],
  ["llama.expert_count", 0],
  ["llama.attention.sliding_window", 0],
  ["llama.attention.causal", true],
  ["llama.attention.clamp_kqv", 0],
  ["llama.attention.max_alibi_bias", 0],
  ["llama.attention.scale", 0],
  ["llama.embedding_scale", 0, 1],
  ["llama.residual_scale", 0, 1],
  ["llama.logit_scale", 0, 1],
  ["llama.use_parallel_residual", false],
];

function refuseOtherModels(file: string, keys: Lookup): void {
  const architecture = keys.value("general.architecture");
  if (architecture !== "llama") {
    throw new FormatError(
      `${file}: general.architecture must be "llama", got ${show(architecture)}. Other architectures compute something else.`,
    );
  }
  for (const [key, ...allowed] of neutralValues) {
    const value = keys.value(key);
    if (value === undefined || allowed.includes(value)) continue;
    if (key === "split.count") {
      throw new FormatError(
        `${file}: this is one of ${show(value)} parts of a model. Merge them with llama-gguf-split --merge.`,
      );
    }
    throw new FormatError(
      `${file}: ${key} must be ${allowed.map(show).join(" or ")} or absent, got ${show(value)}. Ignoring it would change results.`,
    );
  }
}

/** Sizes that no tensor backs, such as `context_length`, are still claims. 2²⁴ is far above any Llama's. */
const MAX_SIZE = 1 << 24;

function readConfig(keys: Lookup, isTied: boolean): HfConfig {
  const layers = keys.size("llama.block_count");
  const dim = keys.size("llama.embedding_length");
  const heads = keys.size("llama.attention.head_count");
  const kvHeads = keys.size("llama.attention.head_count_kv", heads);
  const headSize = keys.size("llama.attention.key_length", Math.floor(dim / heads));
  const vocabSize = keys.size("llama.vocab_size", keys.count("tokenizer.ggml.tokens"));
  if (heads % kvHeads !== 0) {
    throw keys.error("llama.attention.head_count_kv", `must divide head_count (${heads}), got ${kvHeads}`);
  }
  if (headSize % 2 !== 0) {
    throw keys.error("llama.attention.key_length", `must be even for rotary pairs, got ${headSize}`);
  }
  for (const key of ["llama.rope.dimension_count", "llama.attention.value_length"]) {
    const size = keys.size(key, headSize);
    if (size !== headSize) {
      throw keys.error(key, `must be the head size (${headSize}), got ${size}. Only full heads are computed`);
    }
  }
  const endTokens = ["eos", "eot", "eom"].map((name) => keys.token(`tokenizer.ggml.${name}_token_id`, vocabSize));
  return {
    model_type: "llama",
    hidden_size: dim,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headSize,
    intermediate_size: keys.size("llama.feed_forward_length"),
    vocab_size: vocabSize,
    max_position_embeddings: keys.size("llama.context_length"),
    rms_norm_eps: keys.positive("llama.attention.layer_norm_rms_epsilon"),
    rope_theta: keys.positive("llama.rope.freq_base", 10_000),
    hidden_act: "silu",
    isTied,
    layer_sharing: false,
    bos_token_id: keys.token("tokenizer.ggml.bos_token_id", vocabSize),
    eos_token_ids: [...new Set(endTokens.filter((token) => token !== undefined))],
  };
}

type Lookup = {
  value(key: string): unknown;
  /** A whole number from 1 to MAX_SIZE. */
  size(key: string, fallback?: number): number;
  /** A positive f32, as the shortest decimal that rounds to it: 1e-5, not 9.999999747378752e-6. */
  positive(key: string, fallback?: number): number;
  token(key: string, vocabSize: number): number | undefined;
  /** Elements of a list; undefined if there is none. */
  count(key: string): number | undefined;
  error(key: string, problem: string): FormatError;
};

function createLookup(file: string, metadata: GgufMetadata): Lookup {
  const value: Lookup["value"] = (key) => metadata.get(key)?.value;
  const error: Lookup["error"] = (key, problem) => new FormatError(`${file}: ${key} ${problem}.`);
  return {
    value,
    error,
    size(key, fallback) {
      const found = value(key) ?? fallback;
      if (typeof found !== "number" || !Number.isInteger(found) || found < 1 || found > MAX_SIZE) {
        throw error(key, `must be a whole number from 1 to ${MAX_SIZE}, got ${show(found)}`);
      }
      return found;
    },
    positive(key, fallback) {
      const found = value(key) ?? fallback;
      if (typeof found !== "number" || !(found > 0) || !Number.isFinite(found)) {
        throw error(key, `must be a positive number, got ${show(found)}`);
      }
      return shortest(found);
    },
    token(key, vocabSize) {
      const found = value(key);
      if (found === undefined) return undefined;
      if (typeof found !== "number" || !Number.isInteger(found) || found < 0 || found >= vocabSize) {
        throw error(key, `must be a token below ${vocabSize}, got ${show(found)}`);
      }
      return found;
    },
    count(key) {
      const found = metadata.get(key);
      return found?.type === "array" ? found.value.length : undefined;
    },
  };
}

function shortest(value: number): number {
  for (let digits = 1; digits < 9; digits++) {
    const rounded = Number(value.toPrecision(digits));
    if (Math.fround(rounded) === Math.fround(value)) return rounded;
  }
  return value;
}

function show(value: unknown): string {
  if (value === undefined) return "nothing";
  if (typeof value === "number" || typeof value === "bigint" || typeof value === "boolean") return String(value);
  return typeof value === "string" ? describe(value) : "a list";
}

/**
 * Writes metadata that says what `config` says.
 * @throws {RangeError} for what llama.cpp's `llama` can't compute: layer sharing, and a feed-forward without SwiGLU.
 */
export function llamaMetadata(config: HfConfig): Map<string, GgufValue> {
  if (config.layer_sharing) {
    throw new RangeError(
      "writeGguf: a GGUF llama applies each block once, got layer_sharing. Write every application as a block of its own.",
    );
  }
  if (config.hidden_act !== "silu") {
    throw new RangeError(
      `writeGguf: a GGUF llama's feed-forward is SwiGLU (silu), got ${config.hidden_act}. Keep this model in safetensors.`,
    );
  }
  const u32 = (value: number): GgufValue => ({ type: "u32", value });
  const f32 = (value: number): GgufValue => ({ type: "f32", value });
  return new Map([
    ["llama.block_count", u32(config.num_hidden_layers)],
    ["llama.context_length", u32(config.max_position_embeddings)],
    ["llama.embedding_length", u32(config.hidden_size)],
    ["llama.feed_forward_length", u32(config.intermediate_size)],
    ["llama.attention.head_count", u32(config.num_attention_heads)],
    ["llama.attention.head_count_kv", u32(config.num_key_value_heads)],
    ["llama.attention.key_length", u32(config.head_dim)],
    ["llama.attention.value_length", u32(config.head_dim)],
    ["llama.attention.layer_norm_rms_epsilon", f32(config.rms_norm_eps)],
    ["llama.rope.freq_base", f32(config.rope_theta)],
    ["llama.rope.dimension_count", u32(config.head_dim)],
    ["llama.vocab_size", u32(config.vocab_size)],
  ]);
}
