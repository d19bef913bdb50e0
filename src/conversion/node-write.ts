/** A converted model on disk: each file whole or not at all. */
import { mkdir, realpath, rm, rmdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { writeAtomically } from "../formats/node-files.ts";
import type { PlannedFiles } from "./convert.ts";

/** Whether a path names a GGUF file; any other is a folder. */
export function isGgufPath(path: string): boolean {
  return path.toLowerCase().endsWith(".gguf");
}

/** Refuses to write over the model that is read. @throws {RangeError} if both paths lead to the same place. */
export async function refuseSamePlace(where: string, model: unknown, out: string): Promise<void> {
  if (typeof model !== "string") return;
  const [input, output] = await Promise.all([model, out].map((path) => realpath(path).catch(() => undefined)));
  if (input === undefined || input !== output) return;
  throw new RangeError(`${where}: out: another place than the model's was required, got ${out}. Choose another name.`);
}

/** Files beside the weights that say something about the model; those of another model must not stay. */
const companions = [
  "tokenizer.json",
  "tokenizer.model",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "chat_template.jinja",
  "generation_config.json",
];

/** Writes a model's only file to `out`, or its files into the folder `out`, the weights before what belongs to them. */
export async function writePlannedFiles({ files: [weights, ...others] }: PlannedFiles, out: string): Promise<void> {
  if (others.length === 0) return writeAtomically(out, weights.write);
  const created = await mkdir(out, { recursive: true });
  try {
    await writeAtomically(join(out, weights.name), weights.write);
  } catch (error) {
    if (created !== undefined) await rmdir(resolve(out)).catch(() => {});
    throw error;
  }
  for (const name of companions) await rm(join(out, name), { force: true });
  for (const { name, write } of others) await writeAtomically(join(out, name), write);
}
