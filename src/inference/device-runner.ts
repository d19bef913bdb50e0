/** A loaded model as a runner, on whichever backend it lies. */
import type { PreparedProgram } from "../backends/backend.ts";
import { digestOf } from "../model/digest.ts";
import type { LoadedModel } from "../model/load.ts";
import { bytesOf, floatsOf } from "../tensor/bytes.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Batch } from "./batch.ts";
import type { InferencePrograms } from "./programs.ts";
import type { Runner } from "./runner.ts";

export function createDeviceRunner(model: LoadedModel, programs: InferencePrograms): Runner {
  const { config, machine, contextLength } = model;
  const { limits, caches } = programs;

  async function run(
    program: PreparedProgram & { readonly output: Tensor },
    { tokens, slots, places, rows }: Batch,
    targets: readonly number[] | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Float32Array> {
    signal?.throwIfAborted();
    const inputs = [
      input(programs.tokens, tokens),
      input(programs.slots, slots),
      input(programs.places, places),
      input(programs.rows, rows),
      ...(targets ? [input(programs.targets, targets)] : []),
    ];
    const output = { tensor: program.output, length: rows.length * program.output.cols * 4 };
    const numbers = { tokens: tokens.length, position: 0, outputs: rows.length };
    const bytes = await program.run(numbers, { inputs, output, signal });
    return floatsOf(bytes);
  }

  return {
    vocabSize: config.vocabSize,
    contextLength,
    cacheRows: limits.positions,
    maxTokens: limits.tokens,
    maxOutputs: limits.outputs,
    get version() {
      return model.version.current;
    },
    forward: (batch, signal) => run(programs.logits, batch, undefined, signal),
    score: (batch, targets, signal) => run(programs.scores, batch, targets, signal),
    async readCache(length) {
      const parts: Uint8Array[] = [];
      for (const cache of caches) parts.push(await machine.read(cache, 0, length * cache.cols * 4));
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
      for (const cache of caches) {
        const size = length * cache.cols * 4;
        await machine.write(cache, 0, bytes.subarray(at, at + size));
        at += size;
      }
    },
    digest: () => digestOf(model),
  };
}

type Input = { readonly tensor: Tensor; readonly bytes: Uint8Array };

function input(tensor: Tensor, numbers: ArrayLike<number>): Input {
  return { tensor, bytes: bytesOf(Int32Array.from(numbers)) };
}
