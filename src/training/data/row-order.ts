/**
 * A shuffle of any size that needs no memory: a permutation of [0, count) made of a keyed Feistel network over the next
 * power of four, walked until it lands inside (Black & Rogaway 2002, "Ciphers with arbitrary finite domains").
 */

/** Two halves of 20 bits: at 2,048 tokens a row more text than there is. */
const MAX_ROWS = 2 ** 40;
/** Luby & Rackoff 1988: three make a pseudorandom permutation, four a strong one. A few more for small domains. */
const ROUNDS = 8;

/**
 * Makes a permutation of [0, count).
 * @param keys whole numbers that choose it, such as a seed and an epoch.
 */
export function createOrder(count: number, keys: readonly number[]): (index: number) => number {
  if (!Number.isInteger(count) || count < 1 || count > MAX_ROWS) {
    throw new RangeError(`createOrder: a number of rows from 1 to ${MAX_ROWS} was required, got ${count}.`);
  }
  let halfBits = 1;
  while (4 ** halfBits < count) halfBits++;
  const half = 2 ** halfBits;
  const roundKeys = Array.from({ length: ROUNDS }, (_, round) =>
    keys.reduce((hash, key) => mixKey(hash, key), round + 1),
  );

  function step(index: number): number {
    let left = Math.floor(index / half);
    let right = index % half;
    for (const key of roundKeys) {
      const mixed = (left ^ (mix(right ^ key) >>> (32 - halfBits))) >>> 0;
      left = right;
      right = mixed;
    }
    return left * half + right;
  }

  return (index) => {
    let place = step(index);
    while (place >= count) place = step(place);
    return place;
  };
}

/** Both halves of a key of up to 53 bits. */
function mixKey(hash: number, key: number): number {
  return mix(mix(hash ^ key) ^ Math.floor(key / 2 ** 32));
}

/** The finalizer of MurmurHash3 (Appleby), with the constants of Wellons' hash prospector. */
function mix(word: number): number {
  let x = (word ^ 0x9e3779b9) >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x21f0aaad);
  x = Math.imul(x ^ (x >>> 15), 0x735a2d97);
  return (x ^ (x >>> 15)) >>> 0;
}
