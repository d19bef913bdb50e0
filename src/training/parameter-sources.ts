/** Where a trainer's values come from: random numbers, a checkpoint, a loaded model. */
import { FormatError } from "../errors.ts";
import { type Checkpoint, readTensor } from "../formats/checkpoint.ts";
import { createRandom } from "../random.ts";
import { decodeBlocks } from "../tensor/blocks.ts";
import type { ParameterSource } from "./trainer.ts";

/** Standard deviation of every matrix at the start (MobileLLM's initializer_range; no scaling by depth). */
const INITIAL_DEVIATION = 0.02;

/** N(0, 0.02) for matrices, ones for gains. A parameter's numbers depend on the seed and its name alone. */
export function randomParameters(seed: number): ParameterSource {
  return {
    steps: 0,
    async weight(name, count) {
      const values = new Float32Array(count);
      if (isGain(name)) return values.fill(1);
      const random = createRandom(seedOf(seed, name));
      for (let i = 0; i < count; i++) values[i] = INITIAL_DEVIATION * random.normal();
      return values;
    },
  };
}

/** The weights of a checkpoint, in f32, whatever their encoding. */
export function checkpointParameters(checkpoint: Checkpoint): ParameterSource {
  return { steps: 0, weight: (name, count) => readWeights(checkpoint, name, count) };
}

export async function readWeights(checkpoint: Checkpoint, name: string, count: number): Promise<Float32Array> {
  const entry = checkpoint.tensors.get(name);
  if (!entry) throw new FormatError(`${checkpoint.name}: tensor ${name} is required and missing. Download it again.`);
  const elements = entry.shape.reduce((product, size) => product * size, 1);
  if (elements !== count) {
    throw new FormatError(
      `${checkpoint.name}: tensor ${name} must have ${count} values, got (${entry.shape.join(", ")}). Is the config from another model?`,
    );
  }
  const values = new Float32Array(count);
  decodeBlocks(entry.encoding, await readTensor(entry), values);
  return values;
}

function isGain(name: string): boolean {
  return name.endsWith("norm.weight");
}

/** FNV-1a (Fowler, Noll & Vo) over the name, from the seed on. */
function seedOf(seed: number, name: string): number {
  let hash = (2166136261 ^ seed) >>> 0;
  for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0)!, 16777619) >>> 0;
  return hash;
}
