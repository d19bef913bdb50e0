/** A loaded model as a runner, on whichever backend it lies. */
import type { LoadedModel } from "../model/load.ts";
import type { ModelWeights } from "./model-weights.ts";
import type { Tensor } from "../program/operation.ts";
import { PLACE_WORDS } from "../tensor/places.ts";
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
      const { length } = tokens;
      const inputs = [
        input(recorded.tokens, tokens),
        // One text from cache row 0 on.
        input(recorded.places, Array.from({ length }, (_, t) => [0, -1, position + t]).flat(), position * PLACE_WORDS),
        input(
          recorded.rows,
          Array.from({ length: outputs }, (_, n) => length - outputs + n),
        ),
      ];
      const output = { tensor: recorded.logits, length: outputs * config.vocabSize * 4 };
      return floats(
        await machine.run({ tokens: length, position, outputs }, { part: "logits", inputs, output, signal }),
      );
    },
    async score({ tokens, position, places, rows, targets }, signal) {
      signal?.throwIfAborted();
      const outputs = targets.length;
      const inputs = [
        input(recorded.tokens, tokens),
        input(recorded.places, places, position * PLACE_WORDS),
        input(recorded.rows, rows),
        input(recorded.targets, targets),
      ];
      const output = { tensor: recorded.scores, length: outputs * 2 * 4 };
      return floats(
        await machine.run({ tokens: tokens.length, position, outputs }, { part: "scores", inputs, output, signal }),
      );
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

type Input = { readonly tensor: Tensor; readonly bytes: Uint8Array; readonly offset: number };

/** Numbers into an i32 tensor, from number `at` on. */
function input(tensor: Tensor, numbers: ArrayLike<number>, at: number = 0): Input {
  return { tensor, bytes: new Uint8Array(Int32Array.from(numbers).buffer), offset: at * 4 };
}

function floats(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
}
