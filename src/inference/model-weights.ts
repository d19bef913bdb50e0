/** The weights of a loaded model, for those who train it. */
import type { LoadedModel } from "../model/load.ts";
import type { Tensor } from "../program/operation.ts";
import { ROW_BLOCK } from "../tensor/dtype.ts";

export type ModelWeights = {
  /** Hugging Face's names. */
  readonly names: readonly string[];
  /** Values of one in f32, row by row. @throws {TypeError} if the model is kept in another dtype. */
  read(name: string): Promise<Float32Array>;
  /**
   * New values for all of them, asked for before the model is used next; what the cache holds is then forgotten. The last
   * call counts.
   */
  replace(values: (name: string) => Promise<Float32Array>): void;
  /** Carries `replace` out now; true if there was something to do. */
  settle(): Promise<boolean>;
};

/** Of one upload. */
const PIECE_NUMBERS = 1 << 18;

export function createModelWeights({ recorded, machine, dtype }: LoadedModel): ModelWeights {
  let pending: ((name: string) => Promise<Float32Array>) | undefined;

  function f32(name: string): Tensor {
    const tensor = recorded.weights.get(name);
    if (!tensor) throw new TypeError(`weights: ${name} was required, and the model has no such tensor.`);
    if (tensor.dtype !== "f32") {
      throw new TypeError(`weights: a model in f32 was required, got ${dtype}. Load it with { dtype: "f32" }.`);
    }
    return tensor;
  }

  /** Piece by piece; the values stay the caller's. */
  async function upload(tensor: Tensor, values: Float32Array): Promise<void> {
    const rows = values.length / tensor.cols;
    const step = Math.max(1, Math.floor(PIECE_NUMBERS / tensor.cols / ROW_BLOCK)) * ROW_BLOCK;
    for (let start = 0; start < rows; start += step) {
      const count = Math.min(step, rows - start);
      const piece = values.slice(start * tensor.cols, (start + count) * tensor.cols);
      await machine.upload(tensor, start, count, "F32", new Uint8Array(piece.buffer));
    }
  }

  return {
    names: [...recorded.weights.keys()],
    async read(name) {
      return machine.download(f32(name));
    },
    replace(values) {
      pending = values;
    },
    async settle() {
      const values = pending;
      if (!values) return false;
      pending = undefined;
      for (const name of recorded.weights.keys()) {
        await upload(f32(name), await values(name));
      }
      return true;
    },
  };
}
