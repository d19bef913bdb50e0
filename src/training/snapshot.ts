/** The weights of a trainer as a checkpoint in memory. */
import { bytesSource } from "../formats/bytes.ts";
import type { Checkpoint, TensorEntry } from "../formats/checkpoint.ts";
import type { HfConfig } from "../formats/hf-config.ts";
import type { TrainerCore } from "./trainer.ts";

export async function snapshot(trainer: TrainerCore, config: HfConfig): Promise<Checkpoint> {
  const tensors = new Map<string, TensorEntry>();
  for (const name of trainer.tensorNames) {
    const bytes = new Uint8Array((await trainer.read(name, "weight")).buffer);
    const source = bytesSource(name, bytes);
    const shape = trainer.shapeOf(name);
    tensors.set(name, { name, shape, encoding: "F32", source, offset: 0, byteLength: bytes.length });
  }
  return {
    format: "safetensors",
    name: `step ${trainer.steps}`,
    config,
    tensors,
    tokenizer: { kind: "none" },
    close: async () => {},
  };
}
