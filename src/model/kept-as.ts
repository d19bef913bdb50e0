/** The rule for the dtype in which a tensor is kept. */
import { EMBEDDING, HEAD } from "../formats/model-tensors.ts";
import type { Dtype } from "../tensor/dtype.ts";

/** Gives the dtype of one tensor: in `q4` the embedding and the head keep 8 bits, being a model's most sensitive matrices, and few. */
export function keptAs(name: string, wanted: Dtype): Dtype {
  return wanted === "q4" && (name === EMBEDDING || name === HEAD) ? "q8" : wanted;
}
