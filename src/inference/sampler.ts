/**
 * Picks the next token. The steps, their order and their edge cases are those of Hugging Face transformers' logits
 * processors: repetition penalty, temperature, top-k, top-p, min-p. What is left is drawn from in proportion.
 */
import { createRandom } from "../random.ts";
import * as o from "../options.ts";
import { argmax, logSumExp } from "./log-softmax.ts";

/** How the next token is chosen. */
export type SamplerOptions = {
  /** Divides the logits; 0 takes the likeliest token (the first of equals) and uses no randomness. Default 0.8. */
  readonly temperature?: number | undefined;
  /** Keep the k likeliest tokens, and those that tie with the last of them; 0 keeps all. Default 0. */
  readonly topK?: number | undefined;
  /** Keep the fewest likeliest tokens whose probabilities reach this sum (Holtzman et al. 2019). Default 1: all. */
  readonly topP?: number | undefined;
  /** Keep tokens at least this fraction as likely as the likeliest (Nguyen et al. 2024). Default 0: all. */
  readonly minP?: number | undefined;
  /** Above 1 makes tokens of the prompt and the text so far less likely (Keskar et al. 2019, CTRL, eq. 1). Default 1. */
  readonly repetitionPenalty?: number | undefined;
  /** A whole number: the same seed gives the same choices. Default: from the platform's secure random numbers. */
  readonly seed?: number | undefined;
};

/** A token that was chosen. */
export type Sample = {
  readonly token: number;
  /** Natural logarithm of the token's probability under the model itself, before penalty, temperature and cuts. */
  readonly logprob: number;
};

/** Chooses tokens; its random numbers go on from one to the next. */
export type Sampler = {
  /**
   * Chooses a token.
   * @param logits (V), left as they are.
   * @param history the prompt and the tokens so far, for the repetition penalty.
   * @throws {RangeError} if a logit is NaN.
   */
  sample(logits: Float32Array, history: ArrayLike<number>): Sample;
};

/** Sampler options with defaults filled in. */
export type SamplerSettings = {
  readonly [K in keyof SamplerOptions]-?: K extends "seed" ? number | undefined : number;
};

export const samplerEntries: o.Entries<SamplerOptions, SamplerSettings> = {
  temperature: o.withDefault(o.number({ min: 0 }), 0.8),
  topK: o.withDefault(o.number({ isWhole: true, min: 0 }, "a whole number of 0 or more (0: off)"), 0),
  topP: o.withDefault(o.number({ above: 0, max: 1 }), 1),
  minP: o.withDefault(o.number({ min: 0, max: 1 }), 0),
  repetitionPenalty: o.withDefault(o.positive, 1),
  seed: o.optional(o.number({ isWhole: true })),
};

const samplerSchema: o.Schema<SamplerOptions, SamplerSettings> = o.object(samplerEntries);

/** Makes a sampler. @throws {RangeError} naming the option that is out of range. @throws {TypeError} for an unknown option. */
export function createSampler(options: SamplerOptions = {}): Sampler {
  return samplerOf(o.check("sampler", samplerSchema, options));
}

/** Makes a sampler by checked options. */
export function samplerOf(settings: SamplerSettings): Sampler {
  const { temperature, topK, topP, minP, repetitionPenalty, seed = randomSeed() } = settings;
  const random = createRandom(seed);
  let ids = new Int32Array(0); // the tokens still in the draw, in order
  let weights = new Float64Array(0); // theirs, in proportion to their probabilities; the likeliest has 1
  let scratch = new Float64Array(0);

  function sample(logits: Float32Array, history: ArrayLike<number>): Sample {
    const vocabSize = logits.length;
    const normalizer = logSumExp(logits);
    const scores = repetitionPenalty === 1 ? logits : penalize(logits, history, repetitionPenalty);
    const best = argmax(scores);
    if (temperature === 0) return { token: best, logprob: logits[best]! - normalizer };

    if (ids.length !== vocabSize) {
      ids = new Int32Array(vocabSize);
      weights = new Float64Array(vocabSize);
      scratch = new Float64Array(vocabSize);
    }
    const lowest = topK > 0 && topK < vocabSize ? kthLargest(scores, scratch, topK) : -Infinity;
    const top = scores[best]!;
    let count = 0;
    for (let i = 0; i < vocabSize; i++) {
      const score = scores[i]!;
      if (score < lowest) continue;
      ids[count] = i;
      weights[count++] = Math.exp((score - top) / temperature);
    }
    if (topP < 1) count = keepNucleus(ids, weights, count, topP, scratch);
    if (minP > 0) count = keepWhere(ids, weights, count, (weight) => weight >= minP);

    let total = 0;
    for (let i = 0; i < count; i++) total += weights[i]!;
    let rest = random.next() * total;
    let chosen = 0;
    let last = 0; // rounding must not lead to a token of weight 0
    for (; chosen < count && rest >= 0; chosen++) {
      if (weights[chosen] === 0) continue;
      last = chosen;
      rest -= weights[chosen]!;
    }
    const token = ids[last]!;
    return { token, logprob: logits[token]! - normalizer };
  }

  return { sample };
}

/** Draws a seed of 32 bits from the platform's secure random numbers. */
function randomSeed(): number {
  return globalThis.crypto.getRandomValues(new Uint32Array(1))[0]!;
}

/** The new value is made from the model's own logit, so a token that is there several times is penalized once. */
function penalize(logits: Float32Array, history: ArrayLike<number>, penalty: number): Float64Array {
  const result = Float64Array.from(logits);
  for (let i = 0; i < history.length; i++) {
    const token = history[i]!;
    const logit = logits[token];
    if (logit !== undefined) result[token] = logit < 0 ? logit * penalty : logit / penalty;
  }
  return result;
}

/** Moves the entries whose weight passes to the front, in order, and returns how many there are. */
function keepWhere(ids: Int32Array, weights: Float64Array, count: number, passes: (weight: number) => boolean): number {
  let kept = 0;
  for (let i = 0; i < count; i++) {
    const weight = weights[i]!;
    if (!passes(weight)) continue;
    ids[kept] = ids[i]!;
    weights[kept++] = weight;
  }
  return kept;
}

/** A token stays while the probabilities above it sum to less than topP; of equals, the lower ids stay first. */
function keepNucleus(
  ids: Int32Array,
  weights: Float64Array,
  count: number,
  topP: number,
  scratch: Float64Array,
): number {
  let total = 0;
  for (let i = 0; i < count; i++) total += weights[i]!;
  // Tokens of probability below (1 − topP)/count sum to less than 1 − topP: all of them lie outside of the nucleus.
  const cut = (total * (1 - topP)) / count;
  let size = 0;
  for (let i = 0; i < count; i++) if (weights[i]! >= cut) scratch[size++] = weights[i]!;
  const goal = topP * total;
  const lowest = nucleusEdge(scratch, size, goal);
  let sum = 0;
  for (let i = 0; i < count; i++) if (weights[i]! > lowest) sum += weights[i]!;
  return keepWhere(ids, weights, count, (weight) => {
    if (weight !== lowest) return weight > lowest;
    // `sum` is 0 where even the largest is at the edge; one token always stays.
    const stays = sum === 0 || sum < goal;
    sum += weight;
    return stays;
  });
}

/** The weight at which the sum of the largest ones reaches `goal`. Reorders `values`. */
function nucleusEdge(values: Float64Array, count: number, goal: number): number {
  let low = 0;
  let high = count - 1;
  let above = 0; // the sum of what lies before `low`
  while (low < high) {
    const [lastUpper, firstLower] = partition(values, low, high);
    let upper = above;
    for (let i = low; i <= lastUpper; i++) upper += values[i]!;
    if (upper >= goal) {
      high = lastUpper;
      continue;
    }
    for (let i = lastUpper + 1; i < firstLower; i++) upper += values[i]!;
    if (upper >= goal) return values[lastUpper + 1]!;
    above = upper;
    low = firstLower;
  }
  return values[Math.min(low, count - 1)]!;
}

/** The k-th largest of `values` (k from 1). */
function kthLargest(values: ArrayLike<number>, scratch: Float64Array, k: number): number {
  scratch.set(values);
  let low = 0;
  let high = scratch.length - 1;
  while (low < high) {
    const [lastUpper, firstLower] = partition(scratch, low, high);
    if (k - 1 <= lastUpper) high = lastUpper;
    else if (k - 1 >= firstLower) low = firstLower;
    else break;
  }
  return scratch[k - 1]!;
}

/**
 * Hoare's partition, largest first: up to the first index returned values are at least the pivot, from the second on at
 * most; between them they equal it.
 */
function partition(values: Float64Array, low: number, high: number): [lastUpper: number, firstLower: number] {
  const pivot = values[(low + high) >>> 1]!;
  let i = low;
  let j = high;
  while (i <= j) {
    while (values[i]! > pivot) i++;
    while (values[j]! < pivot) j--;
    if (i > j) break;
    const swap = values[i]!;
    values[i++] = values[j]!;
    values[j--] = swap;
  }
  return [j, i];
}
