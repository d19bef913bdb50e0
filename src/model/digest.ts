/** What a saved session says of the weights that it belongs to. */
import type { LoadedModel } from "./load.ts";

const known = new WeakMap<LoadedModel, { readonly version: number; readonly digest: Promise<string> }>();

/** 64 bits in hexadecimal that follow from the values of every weight as they are now; made once for each version of them. */
export function digestOf(model: LoadedModel): Promise<string> {
  const { current: version } = model.version;
  const made = known.get(model);
  if (made?.version === version) return made.digest;
  const digest = makeDigest(model);
  known.set(model, { version, digest });
  return digest;
}

async function makeDigest({ weights, machine }: LoadedModel): Promise<string> {
  let [low, high] = [0x811c9dc5, 0x1b873593];
  for (const tensor of weights.values()) {
    const words = new Uint32Array((await machine.download(tensor)).buffer);
    for (const word of words) {
      low = Math.imul(low ^ word, 0x01000193); // FNV-1a (Fowler, Noll & Vo) over words
      high = Math.imul(high ^ low, 0x9e3779b1);
    }
  }
  return [low, high].map((half) => (half >>> 0).toString(16).padStart(8, "0")).join("");
}
