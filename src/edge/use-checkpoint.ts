/** A model to be read, as the entries of mobilellm/convert and mobilellm/training take it: an open checkpoint, or what one is opened from. */
import type { Checkpoint } from "../formats/checkpoint.ts";

/** Hands on the open checkpoint, and closes it afterwards unless it came open: that one is the caller's. */
export async function useCheckpoint<Source, T>(
  model: Checkpoint | Source,
  open: (source: Source) => Promise<Checkpoint>,
  use: (checkpoint: Checkpoint) => Promise<T>,
): Promise<T> {
  if (isCheckpoint(model)) return use(model);
  const checkpoint = await open(model);
  try {
    return await use(checkpoint);
  } finally {
    await checkpoint.close();
  }
}

function isCheckpoint(model: unknown): model is Checkpoint {
  return typeof model === "object" && model !== null && "tensors" in model && model.tensors instanceof Map;
}
