/**
 * config.json of a Llama-like model (model_type `llama` or `mobilellm`), checked and with defaults filled in.
 * Field names are Hugging Face's. GGUF metadata is translated into the same shape (formats/gguf).
 */
export type HfConfig = {
  readonly model_type: "llama" | "mobilellm";
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
  /** One matrix for embedding and head: `share_embedding` where present, else `tie_word_embeddings`. */
  readonly isTied: boolean;
  /** MobileLLM-LS: each block is applied twice in a row. */
  readonly layer_sharing: boolean;
  readonly bos_token_id: number | undefined;
  readonly eos_token_ids: readonly number[];
};
