/**
 * Byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909): of all adjacent pairs that the table knows, merge the one
 * of the lowest rank, the leftmost first, until none is left. SentencePiece's BPE is the same with rank = order by score.
 */
import { FormatError } from "../errors.ts";

/** A pair of symbols and the symbol that it becomes; the pair of the lowest rank is merged first. */
export type Merge = { left: number; right: number; rank: number; merged: number };

/**
 * Merges `symbols[0..count)` in place and returns how many are left.
 * @param onOffer told of every pair that could be merged, in the order in which pairs come up.
 */
export type Merger = (
  symbols: Int32Array,
  count: number,
  onOffer?: (left: number, right: number, merged: number) => void,
) => number;

/** Ranks times 2³² plus a position must stay exact in a double. */
const MAX_MERGES = 2 ** 21;
const POSITIONS = 2 ** 32;
/** Up to here scanning beats the heap; words of prose are shorter. */
const SHORT = 24;

/** Makes a merger from a table of pairs. @throws {FormatError} for more than 2²¹ of them. */
export function createMerger(merges: readonly Merge[]): Merger {
  if (merges.length > MAX_MERGES) {
    throw new FormatError(`tokenizer: at most ${MAX_MERGES} merges are supported, got ${merges.length}.`);
  }
  // Open addressing at a load of at most one half.
  const mask = 2 ** Math.ceil(Math.log2(merges.length * 2 + 2)) - 1;
  const lefts = new Int32Array(mask + 1);
  const rights = new Int32Array(mask + 1);
  const ranks = new Int32Array(mask + 1).fill(-1);
  const results = new Int32Array(mask + 1);

  function slotOf(left: number, right: number): number {
    let slot = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    slot = (slot ^ (slot >>> 15)) & mask;
    while (ranks[slot]! >= 0 && (lefts[slot] !== left || rights[slot] !== right)) slot = (slot + 1) & mask;
    return slot;
  }

  for (const { left, right, rank, merged } of merges) {
    const slot = slotOf(left, right);
    lefts[slot] = left;
    rights[slot] = right;
    ranks[slot] = rank;
    results[slot] = merged;
  }

  const slots = new Int32Array(SHORT); // slots[i]: of the pair (i, i + 1)

  function mergeShort(symbols: Int32Array, count: number): number {
    for (let i = 0; i + 1 < count; i++) slots[i] = slotOf(symbols[i]!, symbols[i + 1]!);
    for (;;) {
      let best = -1;
      let bestRank = MAX_MERGES;
      for (let i = 0; i + 1 < count; i++) {
        const rank = ranks[slots[i]!]!;
        if (rank >= 0 && rank < bestRank) {
          bestRank = rank;
          best = i;
        }
      }
      if (best < 0) return count;
      symbols[best] = results[slots[best]!]!;
      count--;
      for (let i = best + 1; i < count; i++) {
        symbols[i] = symbols[i + 1]!;
        slots[i] = slots[i + 1]!;
      }
      if (best > 0) slots[best - 1] = slotOf(symbols[best - 1]!, symbols[best]!);
      if (best + 1 < count) slots[best] = slotOf(symbols[best]!, symbols[best + 1]!);
    }
  }

  function mergeLong(symbols: Int32Array, count: number, onOffer: Parameters<Merger>[2]): number {
    const previous = Int32Array.from({ length: count }, (_, i) => i - 1);
    const next = Int32Array.from({ length: count }, (_, i) => i + 1); // `count` ends the list
    const isGone = new Uint8Array(count);
    const heap = createHeap(3 * count); // a merge takes one pair and makes two

    function offer(left: number): void {
      if (left < 0 || next[left]! >= count) return;
      const slot = slotOf(symbols[left]!, symbols[next[left]!]!);
      if (ranks[slot]! < 0) return;
      heap.push(ranks[slot]! * POSITIONS + left);
      onOffer?.(lefts[slot]!, rights[slot]!, results[slot]!);
    }

    for (let i = 0; i + 1 < count; i++) offer(i);
    for (let key = heap.pop(); key >= 0; key = heap.pop()) {
      const rank = Math.floor(key / POSITIONS);
      const left = key - rank * POSITIONS;
      const right = next[left]!;
      if (isGone[left] || right >= count) continue;
      const slot = slotOf(symbols[left]!, symbols[right]!);
      if (ranks[slot] !== rank) continue; // the pair changed since it was offered
      symbols[left] = results[slot]!;
      isGone[right] = 1;
      next[left] = next[right]!;
      if (next[left] < count) previous[next[left]] = left;
      offer(previous[left]!);
      offer(left);
    }
    let kept = 0;
    for (let i = 0; i < count; i = next[i]!) symbols[kept++] = symbols[i]!;
    return kept;
  }

  return (symbols, count, onOffer) =>
    count <= SHORT && onOffer === undefined ? mergeShort(symbols, count) : mergeLong(symbols, count, onOffer);
}

/** A binary min-heap of non-negative numbers; `pop` gives -1 when it is empty. */
function createHeap(capacity: number): { push(key: number): void; pop(): number } {
  const keys = new Float64Array(capacity);
  let size = 0;
  return {
    push(key) {
      let at = size++;
      while (at > 0) {
        const parent = (at - 1) >> 1;
        if (keys[parent]! <= key) break;
        keys[at] = keys[parent]!;
        at = parent;
      }
      keys[at] = key;
    },
    pop() {
      if (size === 0) return -1;
      const top = keys[0]!;
      const last = keys[--size]!;
      let at = 0;
      for (;;) {
        let child = 2 * at + 1;
        if (child >= size) break;
        if (child + 1 < size && keys[child + 1]! < keys[child]!) child++;
        if (keys[child]! >= last) break;
        keys[at] = keys[child]!;
        at = child;
      }
      keys[at] = last;
      return top;
    },
  };
}

/** Prose repeats its words: so many, of at most such a length, are found again above 95 % of the time. */
const MAX_CACHED_WORDS = 65_536;
const MAX_CACHED_LENGTH = 48;

/** Makes an encoder that appends a word's tokens to `out` and remembers them for the next time. */
export function cacheWords(encodeWord: (word: string) => readonly number[]): (word: string, out: number[]) => void {
  const cache = new Map<string, readonly number[]>();
  return (word, out) => {
    let tokens = cache.get(word);
    if (tokens === undefined) {
      tokens = encodeWord(word);
      if (word.length <= MAX_CACHED_LENGTH) {
        if (cache.size >= MAX_CACHED_WORDS) cache.clear();
        cache.set(word, tokens);
      }
    }
    for (const token of tokens) out.push(token);
  };
}
