import { describe, expect, test } from "vitest";
import { createRandom } from "../random.ts";
import { createSampler, type SamplerOptions } from "./sampler.ts";

function randomLogits(vocabSize: number, seed: number): Float32Array {
  const random = createRandom(seed);
  return Float32Array.from({ length: vocabSize }, () => 3 * random.normal());
}

/** The same steps by full sorts, as transformers writes them: gives each token's probability. */
function naiveProbabilities(logits: Float32Array, history: number[], options: SamplerOptions): number[] {
  const { temperature = 0.8, topK = 0, topP = 1, minP = 0, repetitionPenalty: penalty = 1 } = options;
  let scores = Array.from(logits);
  for (const token of new Set(history)) scores[token]! *= scores[token]! < 0 ? penalty : 1 / penalty;
  scores = scores.map((score) => score / temperature);
  if (topK > 0) {
    const last = [...scores].sort((a, b) => b - a)[Math.min(topK, scores.length) - 1]!;
    scores = scores.map((score) => (score < last ? -Infinity : score));
  }
  const order = scores.map((_, i) => i).sort((a, b) => scores[a]! - scores[b]! || b - a);
  let probabilities = softmax(scores);
  let sum = 0;
  for (const token of order.slice(0, -1)) {
    sum += probabilities[token]!;
    if (topP < 1 && sum <= 1 - topP) scores[token] = -Infinity;
  }
  probabilities = softmax(scores);
  const top = Math.max(...probabilities);
  scores = scores.map((score, i) => (probabilities[i]! < minP * top ? -Infinity : score));
  return softmax(scores);
}

function softmax(scores: number[]): number[] {
  const top = Math.max(...scores);
  const weights = scores.map((score) => Math.exp(score - top));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
}

describe("sampler", () => {
  test("temperature 0 takes the first of equal maxima and reports the model's own log-probability", () => {
    const sampler = createSampler({ temperature: 0, repetitionPenalty: 2 });
    const logits = Float32Array.of(1, 5, 2, 2);
    expect(sampler.sample(logits, [1]).token).toBe(1);
    const { token, logprob } = createSampler({ temperature: 0, repetitionPenalty: 4 }).sample(logits, [1, 1]);
    expect(token).toBe(2);
    expect(logprob).toBeCloseTo(2 - Math.log(Math.exp(1) + Math.exp(5) + 2 * Math.exp(2)), 9);
  });

  test("the penalty counts a token once and pushes negative logits further down", () => {
    const logits = Float32Array.of(-1, -1.5);
    expect(createSampler({ temperature: 0, repetitionPenalty: 1.4 }).sample(logits, [0, 0, 0]).token).toBe(0);
    expect(createSampler({ temperature: 0, repetitionPenalty: 1.6 }).sample(logits, [0]).token).toBe(1);
  });

  const cases: SamplerOptions[] = [
    {},
    { temperature: 1.7 },
    { topK: 1 },
    { topK: 7 },
    { topK: 1000 },
    { topP: 0.5 },
    { topP: 0.95, temperature: 1 },
    { topP: 1e-9 },
    { minP: 0.1 },
    { minP: 1 },
    { repetitionPenalty: 1.3, temperature: 0.7, topK: 20, topP: 0.9, minP: 0.05 },
    { repetitionPenalty: 0.8, topK: 3, topP: 0.99 },
  ];
  test.each(cases)("draws what a sort-based reference leaves, as often: %j", (options) => {
    const logits = randomLogits(61, 5);
    const history = [3, 3, 9, 27];
    const expected = naiveProbabilities(logits, history, options);
    const sampler = createSampler({ ...options, seed: 11 });
    const counts = Array.from({ length: 61 }, () => 0);
    const draws = 20_000;
    for (let i = 0; i < draws; i++) counts[sampler.sample(logits, history).token]!++;
    for (const [token, count] of counts.entries()) {
      const p = expected[token]!;
      if (p === 0) expect(count, `token ${token}`).toBe(0);
      // Five standard deviations of a binomial count.
      else expect(Math.abs(count - draws * p), `token ${token}`).toBeLessThan(5 * Math.sqrt(draws * p) + 2);
    }
  });

  test("keeps the ties of top-k, and of a tied nucleus the lower ids", () => {
    const logits = Float32Array.of(1, 1, 1, 1, 0);
    const seen = (options: SamplerOptions): number[] => {
      const sampler = createSampler({ ...options, seed: 3 });
      return [...new Set(Array.from({ length: 300 }, () => sampler.sample(logits, []).token))].sort((a, b) => a - b);
    };
    expect(seen({ topK: 2 })).toEqual([0, 1, 2, 3]);
    expect(seen({ topP: 0.4, temperature: 1 })).toEqual([0, 1]);
  });

  test("a large vocabulary, masked logits and a tiny temperature work", () => {
    const logits = randomLogits(50_257, 2);
    logits.fill(-Infinity, 0, 25_000);
    const sampler = createSampler({ temperature: 1e-30, topK: 40, topP: 0.9, seed: 1 });
    const greedy = createSampler({ temperature: 0 }).sample(logits, []);
    expect(sampler.sample(logits, [])).toEqual(greedy);
    expect(greedy.token).toBeGreaterThan(24_999);
  });

  test("one seed gives one sequence", () => {
    const draw = (seed: number): number[] => {
      const sampler = createSampler({ seed, topP: 0.9 });
      return Array.from({ length: 50 }, (_, i) => sampler.sample(randomLogits(100, i), []).token);
    };
    expect(draw(4)).toEqual(draw(4));
    expect(draw(4)).not.toEqual(draw(5));
  });

  test("refuses options out of range", () => {
    const message = (options: object): string => {
      try {
        createSampler(options);
      } catch (error) {
        return String(error);
      }
      return "accepted";
    };
    expect(
      [
        { temperature: -1 },
        { temperature: Infinity },
        { temperature: "1" },
        { topK: 1.5 },
        { topP: 0 },
        { topP: Number.NaN },
        { minP: 2 },
        { repetitionPenalty: 0 },
        { seed: 0.5 },
        { topk: 3 },
        { temperature: undefined, seed: undefined },
      ].map(message),
    ).toMatchInlineSnapshot(`
      [
        "RangeError: sampler.temperature: expected a number of 0 or more, got -1.",
        "RangeError: sampler.temperature: expected a number of 0 or more, got Infinity.",
        "TypeError: sampler.temperature: expected a number of 0 or more, got "1".",
        "RangeError: sampler.topK: expected a whole number of 0 or more (0: off), got 1.5.",
        "RangeError: sampler.topP: expected a number above 0, up to 1, got 0.",
        "RangeError: sampler.topP: expected a number above 0, up to 1, got NaN.",
        "RangeError: sampler.minP: expected a number from 0 to 1, got 2.",
        "RangeError: sampler.repetitionPenalty: expected a number above 0, got 0.",
        "RangeError: sampler.seed: expected a whole number, got 0.5.",
        "TypeError: sampler: unknown option "topk". Did you mean "topK"?",
        "accepted",
      ]
    `);
  });

  test("refuses logits that are no numbers", () => {
    const sampler = createSampler();
    expect(() => sampler.sample(Float32Array.of(1, Number.NaN), [])).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: logits: expected numbers, got NaN for token 1. The weights are damaged or a sum overflowed.]`,
    );
    expect(() => sampler.sample(Float32Array.of(Infinity, 1), [])).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: logits: expected numbers, got Infinity for token 0. The weights are damaged or a sum overflowed.]`,
    );
    expect(() => sampler.sample(Float32Array.of(-Infinity), [])).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: logits: at least one token must be possible, all are -Infinity.]`,
    );
  });
});
