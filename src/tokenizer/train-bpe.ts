/**
 * Trains a byte-level BPE (Sennrich et al. 2016, arXiv:1508.07909, over the bytes of UTF-8 as in GPT-2), so that every text
 * has tokens and comes back whole. Words are cut as SmolLM's are: each digit alone, then GPT-2's pattern; llama.cpp
 * has that pre-tokenizer under the name "smollm". Hugging Face's BpeTrainer finds the same merges.
 */
import { FormatError } from "../errors.ts";
import { inSequence, splitBy, type PreTokenizer } from "./bpe-tokenizer.ts";
import { byteCharacters, GPT2_WORDS, translatePattern } from "./byte-level.ts";

/** What the vocabulary shall hold. */
export type BpeTrainerOptions = {
  /** How many entries there are in all: special tokens, 256 bytes, merges. */
  readonly vocabSize: number;
  /** The entries with the ids 0, 1, …; the first one ends a text. Default: `<|endoftext|>` alone. */
  readonly specialTokens?: readonly string[];
};

/** Counts words, and then finds the merges. */
export type BpeTrainer = {
  /** Counts the words of a document. */
  add(text: string): void;
  /**
   * Finds the merges.
   * @throws {FormatError} if the text has too few words for a vocabulary of this size.
   */
  train(): TrainedTokenizer;
};

/** The files of a Hugging Face tokenizer, as JSON values. */
export type TrainedTokenizer = {
  readonly tokenizerJson: Readonly<Record<string, unknown>>;
  readonly tokenizerConfig: Readonly<Record<string, unknown>>;
};

/** GPT-2's name for what stands between texts. */
export const END_OF_TEXT = "<|endoftext|>";

/** Pairs of ids are kept as one number. */
const MAX_VOCABULARY = 2 ** 20;
/** A pair that occurs once is no pattern. */
const MIN_PAIR_COUNT = 2;
/** Once there are more words than these, those seen once are forgotten: they make no merge unless they come again. */
const MAX_WORDS = 4_000_000;

const preTokenize: PreTokenizer = inSequence([splitBy(/\p{N}/gu), splitBy(translatePattern(GPT2_WORDS))]);

/**
 * Makes a trainer. @throws {RangeError} for a vocabulary without room for the bytes, or special tokens that are
 * equal.
 */
export function createBpeTrainer({ vocabSize, specialTokens = [END_OF_TEXT] }: BpeTrainerOptions): BpeTrainer {
  const smallest = specialTokens.length + 256;
  if (!Number.isInteger(vocabSize) || vocabSize < smallest || vocabSize > MAX_VOCABULARY) {
    throw new RangeError(
      `createBpeTrainer: vocabSize must be a whole number from ${smallest} (256 bytes and ${specialTokens.length} special tokens) to ${MAX_VOCABULARY}, got ${vocabSize}.`,
    );
  }
  if (specialTokens.length === 0 || new Set(specialTokens).size < specialTokens.length || specialTokens.includes("")) {
    throw new RangeError("createBpeTrainer: specialTokens must be one or more different texts; the first ends a text.");
  }
  let counts = new Map<string, number>();
  const encoder = new TextEncoder();
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return {
    add(text) {
      for (const word of preTokenize([text], true)) {
        const count = counts.get(word);
        // A copy: V8 cuts words out of their document without copying, and would keep the whole document for a word.
        if (count === undefined) counts.set(decoder.decode(encoder.encode(word)), 1);
        else counts.set(word, count + 1);
      }
      if (counts.size > MAX_WORDS) counts = new Map([...counts].filter(([, count]) => count > 1));
    },
    train() {
      const entries = [...specialTokens, ...[...byteCharacters].sort()];
      const merges = findMerges(counts, entries, vocabSize);
      if (entries.length < vocabSize) {
        throw new FormatError(
          `tokenizer: a vocabulary of ${vocabSize} needs more text, this gives ${entries.length} entries. Add text or ask for fewer.`,
        );
      }
      return writeTokenizer(entries, specialTokens, merges);
    },
  };
}

/** A word of the text in ids, and how often it is there. */
type Word = { readonly symbols: number[]; readonly count: number };
/** How often two ids stand side by side, and the words that may hold them. */
type Pair = { count: number; words: Word[] };

/** Adds to `entries` until it holds `vocabSize`, or no pair is left. */
function findMerges(counts: ReadonlyMap<string, number>, entries: string[], vocabSize: number): [string, string][] {
  const ids = new Map(entries.map((entry, id) => [entry, id]));
  const byteIds = byteCharacters.map((character) => ids.get(character)!);
  const encoder = new TextEncoder();

  // A merge takes one pair, in all words that hold it; how often each pair occurs is kept up to date.
  const pairs = new Map<number, Pair>();
  const queue = createPairQueue();

  function change(word: Word, left: number, right: number, by: number): void {
    const key = left * MAX_VOCABULARY + right;
    let pair = pairs.get(key);
    if (pair === undefined) pairs.set(key, (pair = { count: 0, words: [] }));
    pair.count += by;
    if (by > 0 && pair.words.at(-1) !== word) pair.words.push(word);
    if (by > 0) grown.set(key, pair);
  }

  const grown = new Map<number, Pair>(); // pairs to queue anew
  function queueGrown(): void {
    for (const [key, { count }] of grown) queue.push(key, count);
    grown.clear();
  }

  for (const [text, count] of counts) {
    const bytes = encoder.encode(text);
    if (bytes.length < 2) continue;
    const symbols = Array.from(bytes, (byte) => byteIds[byte]!);
    const word = { symbols, count };
    for (let i = 1; i < symbols.length; i++) change(word, symbols[i - 1]!, symbols[i]!, count);
  }
  queueGrown();

  const merges: [string, string][] = [];
  while (entries.length < vocabSize) {
    const top = queue.pop();
    if (top === undefined) break;
    const pair = pairs.get(top.key)!;
    if (pair.count !== top.count) {
      if (pair.count >= MIN_PAIR_COUNT) queue.push(top.key, pair.count); // it lost some since it was queued
      continue;
    }
    if (pair.count < MIN_PAIR_COUNT) break;
    const left = Math.floor(top.key / MAX_VOCABULARY);
    const right = top.key % MAX_VOCABULARY;
    const text = entries[left]! + entries[right]!;
    merges.push([entries[left]!, entries[right]!]);
    let merged = ids.get(text); // "a" + "bc" may come after "ab" + "c"
    if (merged === undefined) {
      merged = entries.push(text) - 1;
      ids.set(text, merged);
    }

    const touched = pair.words;
    pair.words = [];
    for (const word of touched) mergeInWord(word, left, right, merged);
    queueGrown();
  }
  return merges;

  function mergeInWord(word: Word, left: number, right: number, merged: number): void {
    const { symbols, count } = word;
    let kept = 0;
    for (let i = 0; i < symbols.length; i++) {
      if (symbols[i] !== left || symbols[i + 1] !== right) {
        symbols[kept++] = symbols[i]!;
        continue;
      }
      // What stands before was merged already, what comes after not yet: each neighbour loses one pair and wins one.
      if (kept > 0) {
        change(word, symbols[kept - 1]!, left, -count);
        change(word, symbols[kept - 1]!, merged, count);
      }
      change(word, left, right, -count);
      if (i + 2 < symbols.length) {
        change(word, right, symbols[i + 2]!, -count);
        change(word, merged, symbols[i + 2]!, count);
      }
      symbols[kept++] = merged;
      i++;
    }
    symbols.length = kept;
  }
}

type QueuedPair = { readonly key: number; readonly count: number };

/** A heap: the highest count first, of equal ones the lowest key (ids of the left, then of the right part). */
function createPairQueue(): { push(key: number, count: number): void; pop(): QueuedPair | undefined } {
  const heap: QueuedPair[] = [];
  const isBefore = (a: QueuedPair, b: QueuedPair): boolean =>
    a.count > b.count || (a.count === b.count && a.key < b.key);
  return {
    push(key, count) {
      const item = { key, count };
      let at = heap.push(item) - 1;
      while (at > 0) {
        const parent = (at - 1) >> 1;
        if (!isBefore(item, heap[parent]!)) break;
        heap[at] = heap[parent]!;
        at = parent;
      }
      heap[at] = item;
    },
    pop() {
      const top = heap[0];
      const last = heap.pop();
      if (top === undefined || last === undefined || heap.length === 0) return top;
      let at = 0;
      for (;;) {
        let child = 2 * at + 1;
        if (child >= heap.length) break;
        if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++;
        if (!isBefore(heap[child]!, last)) break;
        heap[at] = heap[child]!;
        at = child;
      }
      heap[at] = last;
      return top;
    },
  };
}

function writeTokenizer(
  entries: readonly string[],
  specialTokens: readonly string[],
  merges: readonly (readonly [string, string])[],
): TrainedTokenizer {
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const [endOfText] = specialTokens;
  return {
    tokenizerJson: {
      version: "1.0",
      truncation: null,
      padding: null,
      added_tokens: specialTokens.map((content, id) => ({ id, content, ...flags })),
      normalizer: null,
      pre_tokenizer: { type: "Sequence", pretokenizers: [{ type: "Digits", individual_digits: true }, byteLevel] },
      post_processor: null,
      decoder: byteLevel,
      model: {
        type: "BPE",
        dropout: null,
        unk_token: null,
        continuing_subword_prefix: null,
        end_of_word_suffix: null,
        fuse_unk: false,
        byte_fallback: false,
        ignore_merges: false,
        vocab: Object.fromEntries(entries.map((entry, id) => [entry, id])),
        merges,
      },
    },
    tokenizerConfig: {
      tokenizer_class: "PreTrainedTokenizerFast",
      // As in GPT-2: what ends a text also stands before the next one, so it can begin a text that has no beginning.
      bos_token: endOfText,
      eos_token: endOfText,
      add_bos_token: false,
      clean_up_tokenization_spaces: false,
    },
  };
}
