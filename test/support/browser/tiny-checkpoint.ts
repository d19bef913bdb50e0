/** A checkpoint of about 100 kB in Hugging Face's layout, the same bytes every time. */
import { parseHfConfig } from "../../../src/formats/hf-config.ts";
import { elementCount } from "../../../src/formats/checkpoint.ts";
import { modelTensors } from "../../../src/formats/model-tensors.ts";
import { writeSafetensors } from "../../../src/formats/safetensors.ts";
import { createRandom } from "../../../src/random.ts";

export const VOCAB_SIZE = 256;

const config = {
  model_type: "mobilellm",
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  intermediate_size: 88,
  vocab_size: VOCAB_SIZE,
  max_position_embeddings: 1024,
  rms_norm_eps: 1e-5,
  hidden_act: "silu",
  share_embedding: true,
  layer_sharing: true,
};

export type TinyCheckpoint = Record<"config.json" | "model.safetensors", Uint8Array<ArrayBuffer>>;

export async function makeTinyCheckpoint(seed: number): Promise<TinyCheckpoint> {
  const random = createRandom(seed);
  const tensors = modelTensors(parseHfConfig(config, "config.json")).map(({ name, shape }) => {
    const isNorm = shape.length === 1;
    // About what training starts from: gains near 1, matrices that keep the size of what they multiply.
    const scale = isNorm ? 0.1 : shape[1]! ** -0.5;
    const values = Float32Array.from({ length: elementCount(shape) }, () => Number(isNorm) + scale * random.normal());
    return { name, shape, encoding: "F32" as const, bytes: () => new Uint8Array(values.buffer) };
  });
  const parts: Uint8Array<ArrayBuffer>[] = [];
  await writeSafetensors({ write: async (bytes) => void parts.push(new Uint8Array(bytes)) }, tensors);
  return {
    "config.json": new TextEncoder().encode(JSON.stringify(config)),
    "model.safetensors": new Uint8Array(await new Blob(parts).arrayBuffer()),
  };
}
