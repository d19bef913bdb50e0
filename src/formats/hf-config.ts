/**
 * config.json of a Llama-like model (model_type `llama`, `mobilellm` or `qwen3`), checked and with defaults filled in.
 * Field names are Hugging Face's. GGUF metadata is translated into the same shape (formats/gguf).
 */
import { describe, FormatError, isObject } from "../errors.ts";

const modelTypes = ["llama", "mobilellm", "qwen3"] as const;

/** What config.json says, checked, under its own names. */
export type HfConfig = {
  readonly model_type: (typeof modelTypes)[number];
  readonly hidden_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly intermediate_size: number;
  readonly vocab_size: number;
  readonly max_position_embeddings: number;
  readonly rms_norm_eps: number;
  readonly rope_theta: number;
  /** `silu` is SwiGLU (three matrices); `relu` is the paper's plain feed-forward (up_proj, ReLU, down_proj). */
  readonly hidden_act: "silu" | "relu";
  /** RMSNorm of each query and key head before it turns: what makes a Qwen3 of a Llama. */
  readonly qk_norm?: boolean;
  /** One matrix for embedding and head: `share_embedding` where present, else `tie_word_embeddings`. */
  readonly isTied: boolean;
  /** MobileLLM-LS: each block is applied twice in a row. */
  readonly layer_sharing: boolean;
  /** Any other schedule of shared blocks: this project's own key (model/config says what it means). */
  readonly sharing_schedule?: SharingSchedule | undefined;
  readonly bos_token_id: number | undefined;
  readonly eos_token_ids: readonly number[];
};

/** How blocks are shared, where Hugging Face has no word for it. */
export type SharingSchedule = {
  readonly kind: (typeof sharingKinds)[number];
  /** How often each block is applied, 1 to 4. */
  readonly repeats: number;
  readonly cache: "own" | "first";
};
const sharingKinds = ["immediate", "repeat", "reverse"] as const;

/**
 * A config.json of 300 bytes can claim any size, and everything downstream is allocated from these numbers. Each limit is
 * several times what the largest Llama has.
 */
export const MAX_SIZES = {
  hidden_size: 65_536,
  num_hidden_layers: 1024,
  num_attention_heads: 1024,
  num_key_value_heads: 1024,
  head_dim: 4096,
  intermediate_size: 1_048_576,
  vocab_size: 4_194_304,
  max_position_embeddings: 16_777_216,
} as const;

/**
 * Checks a parsed config.json. Absent fields take transformers' defaults; sizes have none and are required.
 * @throws {FormatError} naming the field that is wrong, or would change results if it were ignored.
 */
export function parseHfConfig(json: unknown, file: string): HfConfig {
  if (!isObject(json)) throw new FormatError(`${file}: a JSON object was expected, got ${describe(json)}.`);
  const type = modelTypes.find((known) => known === json["model_type"]);
  if (type === undefined) {
    throw new FormatError(
      `${file}: model_type must be "llama", "mobilellm" or "qwen3", got ${describe(json["model_type"])}. Other architectures compute something else.`,
    );
  }
  refuseWhatWouldChangeResults(json, file);

  const size = (key: keyof typeof MAX_SIZES, fallback?: number): number => {
    const value = json[key] ?? fallback;
    const limit = MAX_SIZES[key];
    if (typeof value !== "number" || !Number.isInteger(value) || value < 1 || value > limit) {
      throw new FormatError(`${file}: ${key} must be a whole number from 1 to ${limit}, got ${describe(value)}.`);
    }
    return value;
  };
  const hidden = size("hidden_size");
  const heads = size("num_attention_heads");
  const kvHeads = size("num_key_value_heads", heads);
  if (heads % kvHeads !== 0) {
    throw new FormatError(`${file}: num_key_value_heads must divide num_attention_heads (${heads}), got ${kvHeads}.`);
  }
  if (type !== "qwen3" && (json["head_dim"] ?? null) === null && hidden % heads !== 0) {
    throw new FormatError(
      `${file}: without head_dim, num_attention_heads must divide hidden_size (${hidden}), got ${heads}.`,
    );
  }
  const headDim = size("head_dim", type === "qwen3" ? 128 : hidden / heads);
  if (headDim % 2 !== 0) {
    throw new FormatError(`${file}: head_dim must be even for rotary pairs, got ${headDim}.`);
  }
  const activation = json["hidden_act"] ?? "silu";
  if (activation !== "silu" && activation !== "relu") {
    throw new FormatError(`${file}: hidden_act must be "silu" or "relu", got ${describe(activation)}.`);
  }
  const vocabulary = size("vocab_size");
  return {
    model_type: type,
    hidden_size: hidden,
    num_hidden_layers: size("num_hidden_layers"),
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headDim,
    intermediate_size: size("intermediate_size"),
    vocab_size: vocabulary,
    max_position_embeddings: size("max_position_embeddings", type === "qwen3" ? 32_768 : 2048),
    rms_norm_eps: positive(json["rms_norm_eps"] ?? 1e-6, "rms_norm_eps", file),
    rope_theta: ropeTheta(json, file),
    hidden_act: activation,
    ...(type === "qwen3" || flag(json, "qk_norm", file) ? { qk_norm: true } : {}),
    isTied: flag(json, "share_embedding", file) ?? flag(json, "tie_word_embeddings", file) ?? false,
    layer_sharing: flag(json, "layer_sharing", file) ?? false,
    ...((json["sharing_schedule"] ?? null) === null
      ? {}
      : { sharing_schedule: sharingSchedule(json["sharing_schedule"], file) }),
    bos_token_id: tokenIds(json, "bos_token_id", type === "qwen3" ? undefined : 1, vocabulary, file)[0],
    eos_token_ids: tokenIds(json, "eos_token_id", type === "qwen3" ? undefined : 2, vocabulary, file),
  };
}

function sharingSchedule(value: unknown, file: string): SharingSchedule {
  const { kind, repeats, cache } = isObject(value) ? value : {};
  const known = sharingKinds.find((name) => name === kind);
  const isWhole = typeof repeats === "number" && Number.isInteger(repeats) && repeats >= 1 && repeats <= 4;
  if (known && isWhole && (cache === "own" || cache === "first")) return { kind: known, repeats, cache };
  throw new FormatError(
    `${file}: sharing_schedule must have a kind (${sharingKinds.join(", ")}), repeats from 1 to 4 and a cache (own, first), got ${describe(value)}.`,
  );
}

/** Reads token ids from a field that holds a number, an array or null; absent means transformers' default. */
export function tokenIds(
  json: Readonly<Record<string, unknown>>,
  key: string,
  fallback: number | undefined,
  vocabulary: number,
  file: string,
): readonly number[] {
  const value = json[key] === undefined ? fallback : json[key];
  if (value === null || value === undefined) return [];
  const ids: readonly unknown[] = Array.isArray(value) ? value : [value];
  for (const id of ids) {
    if (typeof id === "number" && Number.isInteger(id) && id >= 0 && id < vocabulary) continue;
    // transformers' default must not break a vocabulary of two tokens.
    if (json[key] === undefined) return [];
    throw new FormatError(`${file}: ${key} must be a token id below vocab_size (${vocabulary}), got ${describe(id)}.`);
  }
  return [...new Set(ids as number[])];
}

/**
 * Writes the config.json of a model. One that transformers can run as it is says `llama` or `qwen3`; layer sharing and the plain ReLU
 * feed-forward are neither's, and saying so would load as a different function.
 * @param extra further fields, such as `torch_dtype`.
 */
export function writeHfConfig(
  config: HfConfig,
  extra: Readonly<Record<string, unknown>> = {},
): Record<string, unknown> {
  const { sharing_schedule } = config;
  const { qk_norm = false } = config;
  const isPlain = !config.layer_sharing && sharing_schedule === undefined && config.hidden_act === "silu";
  const [firstEos] = config.eos_token_ids;
  return {
    architectures: [isPlain ? (qk_norm ? "Qwen3ForCausalLM" : "LlamaForCausalLM") : "MobileLLMForCausalLM"],
    model_type: isPlain ? (qk_norm ? "qwen3" : "llama") : "mobilellm",
    hidden_size: config.hidden_size,
    num_hidden_layers: config.num_hidden_layers,
    num_attention_heads: config.num_attention_heads,
    num_key_value_heads: config.num_key_value_heads,
    head_dim: config.head_dim,
    intermediate_size: config.intermediate_size,
    vocab_size: config.vocab_size,
    max_position_embeddings: config.max_position_embeddings,
    rms_norm_eps: config.rms_norm_eps,
    rope_theta: config.rope_theta,
    rope_scaling: null,
    hidden_act: config.hidden_act,
    attention_bias: false,
    mlp_bias: false,
    tie_word_embeddings: config.isTied,
    ...(isPlain
      ? {}
      : { share_embedding: config.isTied, layer_sharing: config.layer_sharing, ...(qk_norm && { qk_norm }) }),
    ...(sharing_schedule === undefined ? {} : { sharing_schedule }),
    bos_token_id: config.bos_token_id ?? null,
    eos_token_id: config.eos_token_ids.length > 1 ? config.eos_token_ids : (firstEos ?? null),
    ...extra,
  };
}

function refuseWhatWouldChangeResults(json: Readonly<Record<string, unknown>>, file: string): void {
  for (const key of ["attention_bias", "mlp_bias"]) {
    if (flag(json, key, file))
      throw new FormatError(`${file}: ${key} must be false, got true: biases are not supported.`);
  }
  if (flag(json, "use_sliding_window", file)) {
    throw new FormatError(
      `${file}: use_sliding_window must be false, got true: attention looks back to the beginning.`,
    );
  }
  if ((json["partial_rotary_factor"] ?? 1) !== 1) {
    throw new FormatError(
      `${file}: partial_rotary_factor must be 1, got ${describe(json["partial_rotary_factor"])}: heads turn as a whole.`,
    );
  }
  if ((json["quantization_config"] ?? null) !== null) {
    throw new FormatError(
      `${file}: quantization_config is not supported. Load the unquantized model and choose a dtype.`,
    );
  }
  for (const key of ["rope_scaling", "rope_parameters"]) {
    const scaling = json[key] ?? null;
    if (scaling === null) continue;
    if (!isObject(scaling)) {
      throw new FormatError(`${file}: ${key} must be an object or null, got ${describe(scaling)}.`);
    }
    const kind = scaling["rope_type"] ?? scaling["type"] ?? (key === "rope_parameters" ? "default" : undefined);
    if (kind !== "default") {
      throw new FormatError(
        `${file}: ${key} must be null or of type "default", got ${describe(kind ?? scaling)}: scaled positions are not supported.`,
      );
    }
    const share = scaling["partial_rotary_factor"] ?? 1;
    if (share !== 1) {
      throw new FormatError(`${file}: ${key}.partial_rotary_factor must be 1, got ${describe(share)}.`);
    }
  }
}

function ropeTheta(json: Readonly<Record<string, unknown>>, file: string): number {
  for (const key of ["rope_parameters", "rope_scaling"]) {
    const nested = json[key];
    const value = isObject(nested) ? (nested["rope_theta"] ?? null) : null;
    if (value !== null) return positive(value, `${key}.rope_theta`, file);
  }
  return positive(json["rope_theta"] ?? 10_000, "rope_theta", file);
}

function positive(value: unknown, key: string, file: string): number {
  if (typeof value === "number" && value > 0 && Number.isFinite(value)) return value;
  throw new FormatError(`${file}: ${key} must be a positive number, got ${describe(value)}.`);
}

function flag(json: Readonly<Record<string, unknown>>, key: string, file: string): boolean | undefined {
  const value = json[key] ?? undefined;
  if (value === undefined || typeof value === "boolean") return value;
  throw new FormatError(`${file}: ${key} must be true or false, got ${describe(value)}.`);
}
