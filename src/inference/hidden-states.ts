/** A second program over a model's weights: what the head reads, for those who compare or classify texts rather than continue them. */
import type { LoadedModel } from "../model/load.ts";
import { recordForward, rotaryAngles } from "../model/mobilellm.ts";
import { constant, createRecorder, ids } from "../program/recorder.ts";
import { bytesOf, floatsOf } from "../tensor/bytes.ts";

export type HiddenStates = {
  /** Tokens to the residual stream after the final norm, (T, dim) row by row. */
  run(tokens: readonly number[], signal?: AbortSignal): Promise<Float32Array>;
  release(): Promise<void>;
};

/** The program is prepared when it is asked for first: most models only write. */
export function createHiddenStates(model: LoadedModel): HiddenStates {
  let prepared: Promise<HiddenStates> | undefined;
  return {
    async run(tokens, signal) {
      prepared ??= prepare(model).catch((error: unknown) => {
        prepared = undefined; // memory may be had later
        throw error;
      });
      return (await prepared).run(tokens, signal);
    },
    release: async () => (await prepared)?.release(),
  };
}

/** On the model's machine: the same forward pass, without a cache and without the head. */
async function prepare(model: LoadedModel): Promise<HiddenStates> {
  const { config, contextLength, machine, weights } = model;
  const r = createRecorder({ tokens: contextLength, outputs: 0, positions: contextLength });
  const tokens = ids("tokens", "tokens");
  const angles = constant("angles", rotaryAngles(config, contextLength), config.headSize);
  const weight = (name: string) => weights.get(name)!;
  const { program, states } = r.finish({ states: recordForward(r, config, { weight, tokens, angles }) });
  const { run, release } = await machine.prepare(program);
  return {
    async run(given, signal) {
      const inputs = [{ tensor: tokens, bytes: bytesOf(Int32Array.from(given)) }];
      const output = { tensor: states, length: given.length * config.dim * 4 };
      const numbers = { tokens: given.length, position: 0, outputs: 0 };
      return floatsOf(await run(numbers, { inputs, output, signal }));
    },
    release,
  };
}
