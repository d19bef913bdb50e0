/** The tensors that a config asks for: the one list that loading, checking, counting, costs, conversion and GGUF read. */
import type { HfConfig } from "./hf-config.ts";

export const EMBEDDING = "model.embed_tokens.weight";
export const HEAD = "lm_head.weight";

export type TensorRole = "embedding" | "head" | "attention" | "feedForward" | "norm";

export type ModelTensor = {
  /** Hugging Face's name. */
  readonly name: string;
  /** (outputs, inputs) of a matrix, (width) of a gain. */
  readonly shape: readonly [number, number] | readonly [number];
  readonly role: TensorRole;
  /** The block that it belongs to. */
  readonly block?: number;
};

type Shape = Pick<
  HfConfig,
  | "hidden_size"
  | "num_hidden_layers"
  | "num_attention_heads"
  | "num_key_value_heads"
  | "head_dim"
  | "intermediate_size"
  | "vocab_size"
  | "hidden_act"
  | "qk_norm"
  | "isTied"
>;

/** Lists them in the order of the forward pass: embedding, blocks, final norm, and the head unless it is tied. */
export function modelTensors(config: Shape): ModelTensor[] {
  const { hidden_size: dim, intermediate_size: hidden, vocab_size: vocabSize } = config;
  const queries = config.num_attention_heads * config.head_dim;
  const keys = config.num_key_value_heads * config.head_dim;
  const head = [config.head_dim] as const;
  const parts: readonly (readonly [string, TensorRole, ModelTensor["shape"]])[] = [
    ["input_layernorm", "norm", [dim]],
    ["self_attn.q_proj", "attention", [queries, dim]],
    ["self_attn.k_proj", "attention", [keys, dim]],
    ["self_attn.v_proj", "attention", [keys, dim]],
    ...(config.qk_norm
      ? ([
          ["self_attn.q_norm", "norm", head],
          ["self_attn.k_norm", "norm", head],
        ] as const)
      : []),
    ["self_attn.o_proj", "attention", [dim, queries]],
    ["post_attention_layernorm", "norm", [dim]],
    ...(config.hidden_act === "silu" ? ([["mlp.gate_proj", "feedForward", [hidden, dim]]] as const) : []),
    ["mlp.up_proj", "feedForward", [hidden, dim]],
    ["mlp.down_proj", "feedForward", [dim, hidden]],
  ];
  const blocks = Array.from({ length: config.num_hidden_layers }, (_, block) =>
    parts.map(([part, role, shape]) => ({ name: `model.layers.${block}.${part}.weight`, shape, role, block })),
  );
  return [
    { name: EMBEDDING, shape: [vocabSize, dim], role: "embedding" },
    ...blocks.flat(),
    { name: "model.norm.weight", shape: [dim], role: "norm" },
    ...(config.isTied ? [] : [{ name: HEAD, shape: [vocabSize, dim], role: "head" } as const]),
  ];
}
