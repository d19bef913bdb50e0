/**
 * CPython's random.Random(seed), as far as random.sample() needs it: MT19937 (Matsumoto & Nishimura 1998) seeded by
 * init_by_array. The harness draws its few-shot examples with it, so equal prompts need equal draws.
 */
export type PythonRandom = {
  /** Draws a number of `bits` bits, 1 to 32: getrandbits(bits). */
  bits(bits: number): number;
  /** Draws `count` different numbers below `size`: random.sample(range(size), count). @throws {RangeError} for more than there are. */
  sample(size: number, count: number): number[];
};

const N = 624;
const M = 397;

/** Makes a random.Random(seed). @param seed a whole number from 0 to 2³² − 1. */
export function createPythonRandom(seed: number): PythonRandom {
  const state = initByArray([seed]);
  let at = N;

  function word(): number {
    if (at === N) {
      for (let i = 0; i < N; i++) {
        const y = (state[i]! & 0x80000000) | (state[(i + 1) % N]! & 0x7fffffff);
        state[i] = state[(i + M) % N]! ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      at = 0;
    }
    let y = state[at++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  const bits = (count: number): number => word() >>> (32 - count);

  /** _randbelow_with_getrandbits: draws anew until the number is small enough. */
  function below(limit: number): number {
    const count = 32 - Math.clz32(limit);
    let value = bits(count);
    while (value >= limit) value = bits(count);
    return value;
  }

  return {
    bits,
    sample(size, count) {
      if (count > size) throw new RangeError(`sample: at most ${size} examples are there, ${count} were asked for.`);
      // CPython takes the method that needs less memory; each draws other numbers.
      const setSize = 21 + (count > 5 ? 4 ** Math.ceil(Math.log(count * 3) / Math.log(4)) : 0);
      if (size <= setSize) {
        const pool = Array.from({ length: size }, (_, i) => i);
        return Array.from({ length: count }, (_, i) => {
          const j = below(size - i);
          const drawn = pool[j]!;
          pool[j] = pool[size - i - 1]!;
          return drawn;
        });
      }
      const drawn = new Set<number>();
      while (drawn.size < count) drawn.add(below(size));
      return [...drawn];
    },
  };
}

function initByArray(key: readonly number[]): Uint32Array {
  const state = new Uint32Array(N);
  state[0] = 19650218;
  for (let i = 1; i < N; i++) state[i] = Math.imul(1812433253, mixed(state, i)) + i;
  let i = 1;
  let j = 0;
  const step = (): void => {
    if (++i < N) return;
    state[0] = state[N - 1]!;
    i = 1;
  };
  for (let k = Math.max(N, key.length); k > 0; k--) {
    state[i] = (state[i]! ^ Math.imul(mixed(state, i), 1664525)) + key[j]! + j;
    step();
    j = (j + 1) % key.length;
  }
  for (let k = N - 1; k > 0; k--) {
    state[i] = (state[i]! ^ Math.imul(mixed(state, i), 1566083941)) - i;
    step();
  }
  state[0] = 0x80000000;
  return state;
}

function mixed(state: Uint32Array, i: number): number {
  return state[i - 1]! ^ (state[i - 1]! >>> 30);
}
