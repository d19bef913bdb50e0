/**
 * MobileLLM's forward pass, once, in the paper's order (arXiv 2402.14905; Llama's block, grouped-query attention, one
 * matrix for embedding and head). Layer sharing is the schedule: a block applied again uses the same weights.
 * Shapes: T tokens, N outputs, C dim, H heads, G kvHeads, D headSize, F hidden, V vocabulary.
 */
import type { Limits, Program, Tensor } from "../program/program.ts";
import { createRecorder } from "../program/program.ts";
import type { Dtype } from "../tensor/dtype.ts";
import type { ModelConfig } from "./config.ts";
import { createSchedule } from "./schedule.ts";

/** A model recorded for inference, with the tensors that the outside reads and writes. */
export type RecordedModel = {
  readonly program: Program;
  readonly tokens: Tensor;
  /** (N, V). */
  readonly logits: Tensor;
  /** By Hugging Face name. */
  readonly weights: ReadonlyMap<string, Tensor>;
  /** Keys and values of each cache slot. */
  readonly caches: readonly Tensor[];
};

/** Records the forward pass with a key/value cache. `dtypeOf` says how a matrix is kept; gains are f32. */
export function recordModel(config: ModelConfig, limits: Limits, dtypeOf: (name: string) => Dtype): RecordedModel {
  const r = createRecorder(limits);
  const weights = new Map<string, Tensor>();
  const matrix = (name: string, rows: number, cols: number): Tensor => {
    const known = weights.get(name); // a shared block's second application, or a tied head
    if (known) return known;
    const tensor = r.weight(name, rows, cols, dtypeOf(name));
    weights.set(name, tensor);
    return tensor;
  };
  const gain = (name: string): Tensor => {
    const known = weights.get(name);
    if (known) return known;
    const tensor = r.weight(name, 1, config.dim, "f32");
    weights.set(name, tensor);
    return tensor;
  };

  const { dim, heads, kvHeads, headSize, hidden, vocabSize, normEps } = config;
  const tokens = r.tokens("tokens");
  const angles = r.constant("angles", rotaryAngles(config, limits.positions), headSize);
  const caches = new Map<number, { keys: Tensor; values: Tensor }>();

  let x = r.embed(tokens, matrix("model.embed_tokens.weight", vocabSize, dim)); // (T, C)
  for (const { block, cacheSlot, writesCache } of createSchedule(config)) {
    const name = (part: string): string => `model.layers.${block}.${part}.weight`;

    const normed = r.rmsnorm(x, gain(name("input_layernorm")), normEps);
    const q = r.rope(r.linear(normed, matrix(name("self_attn.q_proj"), heads * headSize, dim)), angles);
    if (writesCache) {
      const k = r.rope(r.linear(normed, matrix(name("self_attn.k_proj"), kvHeads * headSize, dim)), angles);
      const v = r.linear(normed, matrix(name("self_attn.v_proj"), kvHeads * headSize, dim));
      caches.set(cacheSlot, {
        keys: r.store(k, r.cache(`keys.${cacheSlot}`, kvHeads * headSize)),
        values: r.store(v, r.cache(`values.${cacheSlot}`, kvHeads * headSize)),
      });
    }
    const { keys, values } = caches.get(cacheSlot)!;
    const attended = r.attention(q, keys, values, headSize); // (T, H·D)
    x = r.add(x, r.linear(attended, matrix(name("self_attn.o_proj"), dim, heads * headSize)));

    x = r.add(x, feedForward(r.rmsnorm(x, gain(name("post_attention_layernorm")), normEps), name));
  }
  const last = r.rmsnorm(r.tail(x), gain("model.norm.weight"), normEps); // (N, C)
  const head = config.isTied ? "model.embed_tokens.weight" : "lm_head.weight";
  const { program, output } = r.finish(r.linear(last, matrix(head, vocabSize, dim)));
  const cacheTensors = [...caches.values()].flatMap(({ keys, values }) => [keys, values]);
  return { program, tokens, logits: output, weights, caches: cacheTensors };

  function feedForward(normed: Tensor, name: (part: string) => string): Tensor {
    const up = r.linear(normed, matrix(name("mlp.up_proj"), hidden, dim)); // (T, F)
    const inner =
      config.activation === "swiglu"
        ? r.swiglu(r.linear(normed, matrix(name("mlp.gate_proj"), hidden, dim)), up)
        : r.relu(up);
    return r.linear(inner, matrix(name("mlp.down_proj"), dim, hidden));
  }
}

/** Half cosines, half sines of position · θ^(-2i/D) (RoPE, arXiv 2104.09864), rounded to f32 where transformers rounds. */
function rotaryAngles(config: ModelConfig, positions: number): Float32Array {
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
