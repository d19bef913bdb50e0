/** A second program over a model's weights: what the head reads, for those who compare or classify texts rather than continue them. */
import type { LoadedModel } from "../model/load.ts";
import { recordForward, rotaryAngles } from "../model/mobilellm.ts";
import { constant, createRecorder, ids } from "../program/recorder.ts";

/** Tokens to the residual stream after the final norm, (T, dim) row by row. */
export type HiddenStates = (tokens: readonly number[], signal?: AbortSignal) => Promise<Float32Array>;

/** Prepares the program on the model's machine: the same forward pass, without a cache and without the head. */
export async function prepareHiddenStates(model: LoadedModel): Promise<HiddenStates> {
  const { config, contextLength, machine, weights } = model;
  const r = createRecorder({ tokens: contextLength, outputs: 0, positions: contextLength });
  const tokens = ids("tokens", "tokens");
  const angles = constant("angles", rotaryAngles(config, contextLength), config.headSize);
  const weight = (name: string) => weights.get(name)!;
  const { program, states } = r.finish({ states: recordForward(r, config, { weight, tokens, angles }) });
  const { run } = await machine.prepare(program);
  return async (given, signal) => {
    const bytes = await run(
      { tokens: given.length, position: 0, outputs: 0 },
      {
        inputs: [{ tensor: tokens, bytes: new Uint8Array(Int32Array.from(given).buffer) }],
        output: { tensor: states, length: given.length * config.dim * 4 },
        signal,
      },
    );
    return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  };
}
