/**
 * The shape of a MobileLLM and what follows from it. Shapes: dim = C, heads = H, kvHeads = G, headSize = D, hidden = F.
 */
import { type HfConfig, MAX_SIZES } from "../formats/hf-config.ts";
import { type ModelTensor, modelTensors } from "../formats/model-tensors.ts";
import * as o from "../options.ts";

/** How blocks share weights (paper, section 3.4 and Table 2). */
export type Sharing = {
  /** `immediate`: 0,0,1,1,… · `repeat`: 0…L-1, 0…L-1 · `reverse`: 0…L-1, L-1…0 (alternating when repeated more). */
  readonly kind: "none" | "immediate" | "repeat" | "reverse";
  /** Applications of each block, 1 to 4. */
  readonly repeats: number;
  /** Whether a repeated application keeps its own keys and values, or reads those of the block's first application. */
  readonly cache: "own" | "first";
};

export type ModelConfig = {
  /** Width of the residual stream. */
  readonly dim: number;
  /** Distinct blocks, each with its own weights. */
  readonly layers: number;
  readonly heads: number;
  /** Key/value heads; divides `heads`. */
  readonly kvHeads: number;
  /** Elements of one head; even, for the rotary pairs. */
  readonly headSize: number;
  /** Feed-forward width. */
  readonly hidden: number;
  readonly vocabSize: number;
  /** Positions that the model was trained for. */
  readonly contextLength: number;
  /** `swiglu`: gate, up and down; `relu`: up, ReLU, down. */
  readonly activation: "swiglu" | "relu";
  /** RMSNorm of each query and key head before it turns (Qwen3; Henry et al. 2020, arXiv:2010.04245). Default: none. */
  readonly qkNorm?: boolean | undefined;
  /** One matrix serves embedding and head. */
  readonly isTied: boolean;
  readonly normEps: number;
  readonly ropeTheta: number;
  readonly sharing: Sharing;
  readonly bosToken: number | undefined;
  readonly eosTokens: readonly number[];
};

export const noSharing: Sharing = { kind: "none", repeats: 1, cache: "own" };

/** The paper's feed-forward width: 256·⌈(8·dim/3)/256⌉. */
export function feedForwardWidth(dim: number): number {
  return 256 * Math.ceil((8 * dim) / 3 / 256);
}

function preset(
  layers: number,
  dim: number,
  heads: number,
  kvHeads: number,
  sharing: Sharing = noSharing,
): ModelConfig {
  return {
    dim,
    layers,
    heads,
    kvHeads,
    headSize: 64,
    hidden: feedForwardWidth(dim),
    vocabSize: 32000,
    contextLength: 2048,
    activation: "swiglu",
    isTied: true,
    normEps: 1e-5,
    ropeTheta: 10000,
    sharing,
    bosToken: 1,
    eosTokens: [2],
  };
}

const twiceInARow: Sharing = { kind: "immediate", repeats: 2, cache: "own" };

/** The paper's models (official configs; parameter counts in `countParameters`). */
export const presets: Readonly<Record<PresetName, ModelConfig>> = {
  "125M": preset(30, 576, 9, 3),
  "350M": preset(32, 960, 15, 5),
  "600M": preset(40, 1152, 18, 6),
  "1B": preset(54, 1280, 20, 5),
  "1.5B": preset(54, 1600, 25, 5),
  "125M-LS": preset(30, 576, 9, 3, twiceInARow),
  "350M-LS": preset(32, 960, 15, 5, twiceInARow),
};
export type PresetName = "125M" | "350M" | "600M" | "1B" | "1.5B" | "125M-LS" | "350M-LS";

export type ParameterCount = {
  readonly total: number;
  readonly embedding: number;
  /** A separate output head; 0 when tied. */
  readonly head: number;
  readonly attention: number;
  readonly feedForward: number;
  readonly norms: number;
};

/** Every tensor of a model: Hugging Face's name, shape and role, in the order of the forward pass. */
export function tensorsOf(config: ModelConfig): ModelTensor[] {
  return modelTensors(toHfConfig(config));
}

/** Trainable parameters, norms included. MobileLLM-125M: 124,635,456, of which 18,432,000 embedding. */
export function countParameters(config: ModelConfig): ParameterCount {
  const counts = { total: 0, embedding: 0, head: 0, attention: 0, feedForward: 0, norms: 0 };
  for (const { role, shape } of tensorsOf(config)) {
    const count = shape.reduce((product: number, size) => product * size, 1);
    counts[role === "norm" ? "norms" : role] += count;
    counts.total += count;
  }
  return counts;
}

export const sharingEntries: o.Entries<Sharing> = {
  kind: o.choice("none", "immediate", "repeat", "reverse"),
  repeats: size(4),
  cache: o.choice("own", "first"),
};

export const sharingSchema: o.Schema<Sharing> = o.derived(o.object(sharingEntries), (sharing, refuse) => {
  const { kind, repeats } = sharing;
  if (kind === "none" && repeats !== 1) {
    refuse("repeats", `"none" applies each block once, got ${repeats}. Choose another kind.`);
  }
  return sharing;
});

export const configEntries: o.Entries<ModelConfig> = {
  dim: size(MAX_SIZES.hidden_size),
  layers: size(MAX_SIZES.num_hidden_layers),
  heads: size(MAX_SIZES.num_attention_heads),
  kvHeads: size(MAX_SIZES.num_key_value_heads),
  headSize: size(MAX_SIZES.head_dim),
  hidden: size(MAX_SIZES.intermediate_size),
  vocabSize: size(MAX_SIZES.vocab_size),
  contextLength: size(MAX_SIZES.max_position_embeddings),
  activation: o.choice("swiglu", "relu"),
  qkNorm: o.optional(o.flag),
  isTied: o.flag,
  normEps: o.positive,
  ropeTheta: o.positive,
  sharing: sharingSchema,
  bosToken: o.optional(o.wholeOrZero),
  eosTokens: o.list(o.wholeOrZero),
};

export const configSchema: o.Schema<ModelConfig> = o.derived(o.object(configEntries), (config, refuse) => {
  const { heads, kvHeads, headSize } = config;
  if (heads % kvHeads !== 0) refuse("kvHeads", `must divide heads (${heads}), got ${kvHeads}.`);
  if (headSize % 2 !== 0) refuse("headSize", `must be even for rotary pairs, got ${headSize}.`);
  return config;
});

function size(max: number): o.Schema<number> {
  return o.number({ isWhole: true, min: 1, max });
}

/** Checks each field and the relations between them. @throws {RangeError} naming the first field that is off. */
export function checkConfig(config: ModelConfig): void {
  o.check("config", configSchema, config);
}

/** The model that a config.json describes. `layer_sharing` means each block twice in a row (MobileLLM-LS). */
export function fromHfConfig(hf: HfConfig): ModelConfig {
  const config: ModelConfig = {
    dim: hf.hidden_size,
    layers: hf.num_hidden_layers,
    heads: hf.num_attention_heads,
    kvHeads: hf.num_key_value_heads,
    headSize: hf.head_dim,
    hidden: hf.intermediate_size,
    vocabSize: hf.vocab_size,
    contextLength: hf.max_position_embeddings,
    activation: hf.hidden_act === "silu" ? "swiglu" : "relu",
    ...(hf.qk_norm ? { qkNorm: true } : {}),
    isTied: hf.isTied,
    normEps: hf.rms_norm_eps,
    ropeTheta: hf.rope_theta,
    sharing: hf.sharing_schedule ?? (hf.layer_sharing ? twiceInARow : noSharing),
    bosToken: hf.bos_token_id,
    eosTokens: hf.eos_token_ids,
  };
  checkConfig(config);
  return config;
}

/** The config.json that describes a model. */
export function toHfConfig(config: ModelConfig): HfConfig {
  const { kind, repeats, cache } = config.sharing;
  const isTwiceInARow = kind === "immediate" && repeats === 2 && cache === "own";
  return {
    model_type: "mobilellm",
    hidden_size: config.dim,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    num_key_value_heads: config.kvHeads,
    head_dim: config.headSize,
    intermediate_size: config.hidden,
    vocab_size: config.vocabSize,
    max_position_embeddings: config.contextLength,
    rms_norm_eps: config.normEps,
    rope_theta: config.ropeTheta,
    hidden_act: config.activation === "swiglu" ? "silu" : "relu",
    ...(config.qkNorm ? { qk_norm: true } : {}),
    isTied: config.isTied,
    layer_sharing: isTwiceInARow,
    ...(isTwiceInARow || kind === "none" ? {} : { sharing_schedule: { kind, repeats, cache } }),
    bos_token_id: config.bosToken,
    eos_token_ids: config.eosTokens,
  };
}
