/**
 * Picks the next token. The steps, their order and their edge cases are those of Hugging Face transformers' logits
 * processors: repetition penalty, temperature, top-k, top-p, min-p. What is left is drawn from in proportion.
 */
import { createRandom } from "../random.ts";
import { refuseUnknownKeys } from "../errors.ts";
import { argmax, logSumExp } from "./log-softmax.ts";
import { describe } from "./tokens.ts";

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

export type Sample = {
  readonly token: number;
  /** Natural logarithm of the token's probability under the model itself, before penalty, temperature and cuts. */
  readonly logprob: number;
};

export type Sampler = {
  /**
   * @param logits (V), left as they are.
   * @param history the prompt and the tokens so far, for the repetition penalty.
   * @throws {RangeError} if a logit is NaN.
   */
  sample(logits: Float32Array, history: ArrayLike<number>): Sample;
};

export const samplerKeys: readonly (keyof SamplerOptions)[] = [
  "temperature",
  "topK",
  "topP",
  "minP",
  "repetitionPenalty",
  "seed",
];

/** @throws {RangeError} naming the option that is out of range. @throws {TypeError} for an unknown option. */
export function createSampler(options: SamplerOptions = {}): Sampler {
  refuseUnknownKeys("sampler", options, samplerKeys);
  const { temperature = 0.8, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1, seed = randomSeed() } = options;
  checkOption("temperature", temperature, "a number of 0 or more", temperature >= 0 && temperature < Infinity);
  checkOption("topK", topK, "a whole number of 0 or more (0: off)", Number.isSafeInteger(topK) && topK >= 0);
  checkOption("topP", topP, "a number above 0, up to 1", topP > 0 && topP <= 1);
  checkOption("minP", minP, "a number from 0 to 1", minP >= 0 && minP <= 1);
  checkOption(
    "repetitionPenalty",
    repetitionPenalty,
    "a number above 0",
    repetitionPenalty > 0 && repetitionPenalty < Infinity,
  );
  checkOption("seed", seed, "a whole number", Number.isSafeInteger(seed));

  const random = createRandom(seed);
  let scores = new Float64Array(0);
  let scratch = new Float64Array(0);
  let ids = new Int32Array(0);

  function sample(logits: Float32Array, history: ArrayLike<number>): Sample {
    const vocabSize = logits.length;
    const normalizer = logSumExp(logits);
    const penalized = repetitionPenalty === 1 ? logits : penalize(logits, history, repetitionPenalty);
    if (temperature === 0) {
      const token = argmax(penalized);
      return { token, logprob: logits[token]! - normalizer };
    }
    if (scores.length !== vocabSize) {
      scores = new Float64Array(vocabSize);
      scratch = new Float64Array(vocabSize);
      ids = new Int32Array(vocabSize);
    }
    // Scores are taken from the largest, so that a tiny temperature cannot overflow them.
    const top = penalized[argmax(penalized)]!;
    for (let i = 0; i < vocabSize; i++) scores[i] = (penalized[i]! - top) / temperature;

    let count = 0;
    const threshold = topK > 0 && topK < vocabSize ? kthLargest(scores, scratch, topK) : -Infinity;
    for (let i = 0; i < vocabSize; i++) if (scores[i]! >= threshold) ids[count++] = i;
    if (topP < 1) count = keepNucleus(ids, count, scores, topP);

    // The weights are taken over the scratch space; the likeliest has weight 1.
    let kept = 0;
    let total = 0;
    for (let i = 0; i < count; i++) {
      const weight = Math.exp(scores[ids[i]!]!);
      if (weight < minP || weight === 0) continue;
      ids[kept] = ids[i]!;
      scratch[kept++] = weight;
      total += weight;
    }
    let rest = random.next() * total;
    let chosen = 0;
    while (chosen < kept - 1 && rest >= scratch[chosen]!) rest -= scratch[chosen++]!;
    const token = ids[chosen]!;
    return { token, logprob: logits[token]! - normalizer };
  }

  return { sample };
}

/** A seed from the platform's secure random numbers. */
export function randomSeed(): number {
  return globalThis.crypto.getRandomValues(new Uint32Array(1))[0]!;
}

function checkOption(option: string, value: unknown, expected: string, isValid: boolean): void {
  if (typeof value !== "number" || !isValid) {
    throw new RangeError(`${option}: expected ${expected}, got ${describe(value)}.`);
  }
}

/** Once for each distinct token: the new value is made from the model's logit, so repeats don't add up. */
function penalize(logits: Float32Array, history: ArrayLike<number>, penalty: number): Float64Array {
  const result = Float64Array.from(logits);
  for (let i = 0; i < history.length; i++) {
    const token = history[i]!;
    const logit = logits[token];
    if (logit !== undefined) result[token] = logit < 0 ? logit * penalty : logit / penalty;
  }
  return result;
}

/** The k-th largest of `values` (k from 1), by Hoare's quickselect on a copy. */
function kthLargest(values: Float64Array, scratch: Float64Array, k: number): number {
  scratch.set(values);
  let low = 0;
  let high = scratch.length - 1;
  const wanted = k - 1;
  while (low < high) {
    const pivot = scratch[(low + high) >>> 1]!;
    let i = low;
    let j = high;
    while (i <= j) {
      while (scratch[i]! > pivot) i++;
      while (scratch[j]! < pivot) j--;
      if (i <= j) {
        const swap = scratch[i]!;
        scratch[i++] = scratch[j]!;
        scratch[j--] = swap;
      }
    }
    if (wanted <= j) high = j;
    else if (wanted >= i) low = i;
    else break;
  }
  return scratch[wanted]!;
}

/**
 * Moves the nucleus to the front of `ids` and returns its size: a token stays while the probabilities above it sum to
 * less than topP. Equals rank by id. Tokens are popped off a heap, so only the nucleus is ever put in order.
 */
function keepNucleus(ids: Int32Array, count: number, scores: Float64Array, topP: number): number {
  let total = 0;
  for (let i = 0; i < count; i++) total += Math.exp(scores[ids[i]!]!);
  // Tokens of probability below (1 − topP)/count sum to less than 1 − topP: all of them lie outside of the nucleus.
  const cut = (total * (1 - topP)) / count;
  let size = 0;
  for (let i = 0; i < count; i++) if (Math.exp(scores[ids[i]!]!) >= cut) ids[size++] = ids[i]!;

  const heap = ids.slice(0, size);
  for (let i = (size >>> 1) - 1; i >= 0; i--) siftDown(heap, i, size, scores);
  const goal = topP * total;
  let sum = 0;
  let kept = 0;
  while (size > 0 && (kept === 0 || sum < goal)) {
    const token = heap[0]!;
    ids[kept++] = token;
    sum += Math.exp(scores[token]!);
    heap[0] = heap[--size]!;
    siftDown(heap, 0, size, scores);
  }
  return kept;
}

function siftDown(heap: Int32Array, start: number, size: number, scores: Float64Array): void {
  const token = heap[start]!;
  let parent = start;
  for (;;) {
    let child = 2 * parent + 1;
    if (child >= size) break;
    if (child + 1 < size && isBefore(heap[child + 1]!, heap[child]!, scores)) child++;
    if (!isBefore(heap[child]!, token, scores)) break;
    heap[parent] = heap[child]!;
    parent = child;
  }
  if (size > 0) heap[parent] = token;
}

function isBefore(a: number, b: number, scores: Float64Array): boolean {
  const difference = scores[a]! - scores[b]!;
  return difference > 0 || (difference === 0 && a < b);
}
