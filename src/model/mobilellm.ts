/**
 * MobileLLM's forward pass, once, in the paper's order (arXiv 2402.14905; Llama's block, grouped-query attention, one
 * matrix for embedding and head). Layer sharing is the schedule: a block applied again uses the same weights.
 * Shapes: T tokens, C dim, H heads, G kvHeads, D headSize, F hidden, V vocabulary.
 */
import { EMBEDDING, HEAD } from "../formats/model-tensors.ts";
import type { Recorder } from "../program/recorder.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { ModelConfig } from "./config.ts";
import { createSchedule } from "./schedule.ts";

/** What a forward pass stands on, and where its keys and values go. */
export type Surroundings = {
  /** A weight by Hugging Face's name. */
  readonly weight: (name: string) => Tensor;
  /** T token ids. */
  readonly tokens: Tensor;
  /** Cosines and sines by position: rotaryAngles. */
  readonly angles: Tensor;
  /** The cache row of each token, and where each cache row stands in its text; without, tokens follow each other. */
  readonly slots?: Tensor | undefined;
  readonly places?: Tensor | undefined;
  /** Keys or values as attention shall find them: in a cache, or as they are. */
  readonly remember?: (name: string, x: Tensor) => Tensor;
  /** Called before each application of a block. */
  readonly onBlock?: () => void;
};

/** Embedding, blocks and final norm: the residual stream (T, C) as the head reads it. */
export function recordForward(r: Recorder, config: ModelConfig, surroundings: Surroundings): Tensor {
  const { headSize, normEps: eps } = config;
  const { weight, tokens, angles, slots, places, remember = (_, x) => x, onBlock } = surroundings;
  const cached = new Map<number, { keys: Tensor; values: Tensor }>();
  const rotate = (x: Tensor): Tensor => r.rope({ x, angles, slots, places, isInverse: 0 });

  let x = r.embed({ tokens, table: weight(EMBEDDING) }); // (T, C)
  for (const { block, cacheSlot, writesCache } of createSchedule(config)) {
    onBlock?.();
    const of = (part: string): Tensor => weight(`model.layers.${block}.${part}.weight`);

    const normed = r.rmsnorm({ x, gain: of("input_layernorm"), eps });
    const normHeads = (x: Tensor, gain: string): Tensor => (config.qkNorm ? r.rmsnorm({ x, gain: of(gain), eps }) : x);
    const q = rotate(normHeads(r.linear({ x: normed, weight: of("self_attn.q_proj") }), "self_attn.q_norm")); // (T, H·D)
    if (writesCache) {
      const k = rotate(normHeads(r.linear({ x: normed, weight: of("self_attn.k_proj") }), "self_attn.k_norm")); // (T, G·D)
      const v = r.linear({ x: normed, weight: of("self_attn.v_proj") });
      cached.set(cacheSlot, { keys: remember(`keys.${cacheSlot}`, k), values: remember(`values.${cacheSlot}`, v) });
    }
    const attended = r.attention({ q, ...cached.get(cacheSlot)!, slots, places, headSize });
    x = r.add({ a: x, b: r.linear({ x: attended, weight: of("self_attn.o_proj") }) });

    const inner = feedForward(r.rmsnorm({ x, gain: of("post_attention_layernorm"), eps }), of);
    x = r.add({ a: x, b: r.linear({ x: inner, weight: of("mlp.down_proj") }) });
  }
  return r.rmsnorm({ x, gain: weight("model.norm.weight"), eps });

  /** SwiGLU, or a plain ReLU between two matrices: (T, F). */
  function feedForward(normed: Tensor, of: (part: string) => Tensor): Tensor {
    const up = r.linear({ x: normed, weight: of("mlp.up_proj") });
    if (config.activation === "relu") return r.relu({ x: up });
    return r.swiglu({ gate: r.linear({ x: normed, weight: of("mlp.gate_proj") }), up });
  }
}

/** The matrix that turns the residual stream into logits: the embedding's where it is tied. */
export function headName({ isTied }: ModelConfig): string {
  return isTied ? EMBEDDING : HEAD;
}

/** Half cosines, half sines of position · θ^(-2i/D) (RoPE, arXiv 2104.09864), rounded to f32 where transformers rounds. */
export function rotaryAngles(config: ModelConfig, positions: number): Float32Array {
  const half = config.headSize / 2;
  const table = new Float32Array(positions * config.headSize);
  for (let i = 0; i < half; i++) {
    const frequency = Math.fround(1 / Math.fround(config.ropeTheta ** ((2 * i) / config.headSize)));
    for (let position = 0; position < positions; position++) {
      const angle = Math.fround(position * frequency);
      table[position * config.headSize + i] = Math.cos(angle);
      table[position * config.headSize + half + i] = Math.sin(angle);
    }
  }
  return table;
}
