/** A Hugging Face folder with random weights, for tests that need some checkpoint. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { parseHfConfig } from "../../src/formats/hf-config.ts";
import { atomicFileSink } from "../../src/formats/node-files.ts";
import { modelTensors } from "../../src/formats/model-tensors.ts";
import { writeSafetensors } from "../../src/formats/safetensors.ts";
import { createRandom } from "../../src/random.ts";

/** Writes config.json and model.safetensors (f32, standard normal, one seed) into `folder`, which it makes. */
export async function writeRandomCheckpoint(folder: string, config: object): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "config.json"), JSON.stringify(config));
  const random = createRandom(7);
  const sink = await atomicFileSink(join(folder, "model.safetensors"));
  await writeSafetensors(
    sink,
    modelTensors(parseHfConfig(config, "config.json")).map(({ name, shape }) => {
      const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal());
      return { name, shape, encoding: "F32", bytes: () => new Uint8Array(values.buffer) };
    }),
  );
  await sink.commit();
}
