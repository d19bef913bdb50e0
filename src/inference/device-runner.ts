/** A loaded model as a runner, on whichever backend it lies. */
import type { LoadedModel } from "../model/load.ts";
import type { ModelWeights } from "./model-weights.ts";
import type { Runner } from "./runner.ts";

export function createDeviceRunner({ config, recorded, machine }: LoadedModel, weights: ModelWeights): Runner {
  const { limits } = recorded.program;
  return {
    vocabSize: config.vocabSize,
    contextLength: limits.positions,
    maxTokens: limits.tokens,
    maxOutputs: limits.outputs,
    async forward(tokens, position, outputs, signal) {
      signal?.throwIfAborted();
      const ids = Int32Array.from(tokens);
      const bytes = await machine.run(
        { tokens: ids.length, position, outputs },
        {
          inputs: [{ tensor: recorded.tokens, bytes: new Uint8Array(ids.buffer) }],
          output: { tensor: recorded.logits, length: outputs * config.vocabSize * 4 },
          signal,
        },
      );
      return new Float32Array(bytes.buffer, bytes.byteOffset, outputs * config.vocabSize);
    },
    refresh: () => weights.settle(),
    async readCache(length) {
      const parts: Uint8Array[] = [];
      for (const cache of recorded.caches) parts.push(await machine.read(cache, 0, length * cache.cols * 4));
      const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
      let at = 0;
      for (const part of parts) {
        all.set(part, at);
        at += part.length;
      }
      return all;
    },
    async writeCache(bytes, length) {
      let at = 0;
      for (const cache of recorded.caches) {
        const size = length * cache.cols * 4;
        await machine.write(cache, 0, bytes.subarray(at, at + size));
        at += size;
      }
    },
  };
}
