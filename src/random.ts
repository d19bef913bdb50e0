/**
 * The one source of randomness: xoshiro128++ (Blackman & Vigna 2019), seeded through SplitMix32, so that a seed gives
 * the same numbers in every runtime. Its state is four words, small enough for a checkpoint.
 */
export type Random = {
  /** A float in [0, 1) with 53 random bits. */
  next(): number;
  /** A standard normal deviate (Box & Muller 1958). */
  normal(): number;
  /** A whole number in [0, limit). */
  below(limit: number): number;
  /** The four 32-bit words of the state; `createRandom(state)` goes on from there. */
  state(): readonly number[];
};

/** @param seed a whole number, or the words that `state()` gave. */
export function createRandom(seed: number | readonly number[]): Random {
  const s = typeof seed === "number" ? seedWords(seed) : Uint32Array.from(seed);

  function word(): number {
    const sum = (s[0]! + s[3]!) >>> 0;
    const result = (rotateLeft(sum, 7) + s[0]!) >>> 0;
    const t = s[1]! << 9;
    s[2]! ^= s[0]!;
    s[3]! ^= s[1]!;
    s[1]! ^= s[2]!;
    s[0]! ^= s[3]!;
    s[2]! ^= t;
    s[3] = rotateLeft(s[3]!, 11);
    return result;
  }

  const next = (): number => ((word() >>> 5) * 67108864 + (word() >>> 6)) / 9007199254740992;
  return {
    next,
    normal: () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()),
    below: (limit) => Math.floor(next() * limit),
    state: () => Array.from(s),
  };
}

function rotateLeft(x: number, bits: number): number {
  return ((x << bits) | (x >>> (32 - bits))) >>> 0;
}

function seedWords(seed: number): Uint32Array {
  if (!Number.isSafeInteger(seed)) {
    throw new RangeError(`seed: expected a whole number, got ${seed}.`);
  }
  const words = new Uint32Array(4);
  let state = (seed ^ Math.floor(seed / 4294967296)) >>> 0;
  for (let i = 0; i < 4; i++) {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    words[i] = (z ^ (z >>> 15)) >>> 0;
  }
  return words;
}
