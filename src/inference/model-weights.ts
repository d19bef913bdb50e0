/** The weights of a loaded model, for those who train it. */
import type { LoadedModel } from "../model/load.ts";
import type { Tensor } from "../program/operation.ts";

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

export function createModelWeights({ recorded, machine, dtype }: LoadedModel): ModelWeights {
  let pending: ((name: string) => Promise<Float32Array>) | undefined;

  function f32(name: string): { tensor: Tensor; count: number } {
    const tensor = recorded.weights.get(name);
    if (!tensor) throw new TypeError(`weights: ${name} was required, and the model has no such tensor.`);
    if (tensor.dtype !== "f32") {
      throw new TypeError(`weights: a model in f32 was required, got ${dtype}. Load it with { dtype: "f32" }.`);
    }
    return { tensor, count: (tensor.rows as number) * tensor.cols };
  }

  return {
    names: [...recorded.weights.keys()],
    async read(name) {
      const { tensor, count } = f32(name);
      const bytes = await machine.read(tensor, 0, count * 4);
      return new Float32Array(bytes.buffer, bytes.byteOffset, count);
    },
    replace(values) {
      pending = values;
    },
    async settle() {
      const values = pending;
      if (!values) return false;
      pending = undefined;
      for (const name of recorded.weights.keys()) {
        const { tensor } = f32(name);
        const array = await values(name);
        await machine.write(tensor, 0, new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
      }
      return true;
    },
  };
}
