/**
 * The programs of inference over a model's weights: over one cache, logits after tokens and log-probabilities of given ones; without it,
 * once they are asked for, hidden states.
 */
import { prepareAll, type PreparedProgram, releaseAll } from "../backends/backend.ts";
import type { LoadedModel } from "../model/load.ts";
import { headName, recordForward, rotaryAngles } from "../model/mobilellm.ts";
import type { Program } from "../program/program.ts";
import { cache, constant, createRecorder, ids, placesCache } from "../program/recorder.ts";
import { PLACE_WORDS } from "../tensor/places.ts";
import type { Limits, Tensor } from "../tensor/tensor.ts";
import { createHiddenStates, type HiddenStates } from "./hidden-states.ts";

/** Tokens of one replay: so many that reading the weights hardly counts, few enough for a cancel where memory is not shared. */
const MAX_TOKENS = 128;
/** Rows of logits of one replay: most of those that are scored. 90 × 49,152 × 4 bytes are 18 MB. */
const MAX_OUTPUTS = 90;

/** What a replay reads and gives. */
type Inputs = {
  /** T token ids, and the cache row of each. */
  readonly tokens: Tensor;
  readonly slots: Tensor;
  /** (T, 3): where each stands in its text (tensor/places.ts). */
  readonly places: Tensor;
  /** N of the T rows: those that reach the head. */
  readonly rows: Tensor;
  /** N tokens that are asked about. */
  readonly targets: Tensor;
};

export type InferencePrograms = Inputs & {
  readonly limits: Limits;
  /** Keys and values of each cache slot. */
  readonly caches: readonly Tensor[];
  /** Ends with `output` (N, V). */
  readonly logits: PreparedProgram & { readonly output: Tensor };
  /** Ends with `output` (N, 2): log P of each target after its row, and whether it is the likeliest. */
  readonly scores: PreparedProgram & { readonly output: Tensor };
  readonly hidden: HiddenStates;
  /** Gives up all of them, where the machine goes on. */
  readonly release: () => Promise<void>;
};

/** Prepares the two over the cache on the model's machine. @param cacheRows positions of the key/value cache. */
export async function prepareInference(model: LoadedModel, cacheRows: number): Promise<InferencePrograms> {
  const { config, contextLength, machine } = model;
  const tokens = Math.min(MAX_TOKENS, cacheRows);
  const limits = { tokens, outputs: Math.min(MAX_OUTPUTS, tokens), positions: cacheRows };
  const inputs: Inputs = {
    tokens: ids("tokens", "tokens"),
    slots: ids("slots", "tokens"),
    places: ids("places", "tokens", PLACE_WORDS),
    rows: ids("rows", "outputs"),
    targets: ids("targets", "outputs"),
  };
  const angles = constant("angles", rotaryAngles(config, contextLength), config.headSize);
  const kept = placesCache(cacheRows);
  const caches = new Map<string, Tensor>();

  const record = (asks: boolean): { program: Program; output: Tensor } => {
    const r = createRecorder(limits);
    const remember = (name: string, x: Tensor): Tensor => {
      const rows = caches.get(name) ?? cache(name, cacheRows, x.cols);
      caches.set(name, rows);
      return r.store({ cache: rows, x, slots: inputs.slots });
    };
    const weight = (name: string): Tensor => model.weights.get(name)!;
    const { tokens, slots, rows, targets } = inputs;
    const places = r.store({ cache: kept, x: inputs.places, slots });
    const x = recordForward(r, config, { weight, tokens, slots, places, angles, remember });
    const logits = r.linear({ x: r.pick({ x, rows }), weight: weight(headName(config)) }); // (N, V)
    return r.finish({ output: asks ? r.logProbability({ logits, targets }) : logits });
  };
  const [logits, scores] = [record(false), record(true)];
  const [preparedLogits, preparedScores] = await prepareAll(machine, [logits.program, scores.program]);
  const hidden = createHiddenStates(model);
  return {
    ...inputs,
    limits,
    caches: [...caches.values()],
    logits: { ...preparedLogits, output: logits.output },
    scores: { ...preparedScores, output: scores.output },
    hidden,
    release: () => releaseAll([preparedLogits, preparedScores, hidden]),
  };
}
