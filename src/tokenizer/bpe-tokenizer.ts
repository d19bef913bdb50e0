/** BPE over the words of a pre-tokenizer: what tokenizer.json's "BPE" model and GGUF's "gpt2" vocabularies share. */
import { FormatError } from "../errors.ts";
import { createAddedTokenSplitter, type AddedToken } from "./added-tokens.ts";
import { cacheWords, createMerger, type Merge } from "./bpe.ts";
import { byteCharacters } from "./byte-level.ts";
import { cutBeforeSpaces, hasSpaceInside, SPACE } from "./sentencepiece.ts";

/** Cuts texts further; the first text begins at the very start of the input if `isStart`. */
export type PreTokenizer = (texts: readonly string[], isStart: boolean) => string[];

/** A vocabulary of words' parts, and how words become them. */
export type BpeModel = {
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly merges: readonly (readonly [string, string])[];
  /** Whether entries are UTF-8 in GPT-2's byte alphabet. */
  readonly isByteLevel: boolean;
  /** Whether characters outside the vocabulary become `<0x00>`-style tokens. */
  readonly hasByteFallback: boolean;
  /** The token of what has no other; without one it is left out. */
  readonly unknownId: number | undefined;
  /** Whether unknown characters side by side are one unknown token. */
  readonly fusesUnknown: boolean;
  /** Whether a word that is an entry as a whole stays whole, merges or not. */
  readonly ignoresMerges: boolean;
};

/**
 * Makes an encoder that appends a text's tokens to `out`: it cuts out added tokens, normalizes and pre-tokenizes the rest,
 * and merges within each word.
 * @throws {FormatError} naming `name` if a merge has a part or a result outside the vocabulary.
 */
export function createBpeEncoder(
  model: BpeModel,
  normalize: (text: string) => string,
  preTokenize: PreTokenizer,
  addedTokens: readonly AddedToken[],
  name: string,
): (text: string, out: number[]) => void {
  const encodeWord = createWordEncoder(model, name);
  const isCut =
    !model.isByteLevel &&
    !model.ignoresMerges &&
    model.vocabulary.has(SPACE) &&
    !model.merges.some(([left, right]) => hasSpaceInside(left + right));
  const splitRaw = createAddedTokenSplitter(addedTokens.filter((token) => !token.isNormalized));
  const splitNormalized = createAddedTokenSplitter(
    addedTokens.filter((token) => token.isNormalized).map((token) => ({ ...token, content: normalize(token.content) })),
  );
  return (text, out) => {
    const onToken = (id: number): void => {
      out.push(id);
    };
    splitRaw(
      text,
      (raw, rawStart) => {
        splitNormalized(
          normalize(raw),
          (part, start) => {
            for (const word of preTokenize([part], rawStart + start === 0)) {
              if (isCut) for (const smaller of cutBeforeSpaces(word)) encodeWord(smaller, out);
              else encodeWord(word, out);
            }
          },
          onToken,
        );
      },
      onToken,
    );
  };
}

/** Words to tokens; those of late are kept. */
function createWordEncoder(model: BpeModel, name: string): (word: string, out: number[]) => void {
  const merge = createMerger(mergesOf(model, name));
  const symbolsOf = createSymbolizer(model);
  return cacheWords((word) => {
    if (model.ignoresMerges) {
      const id = model.vocabulary.get(model.isByteLevel ? toByteCharacters(word) : word);
      if (id !== undefined) return [id];
    }
    const symbols = Int32Array.from(symbolsOf(word));
    return Array.from(symbols.subarray(0, merge(symbols, symbols.length)));
  });
}

function mergesOf({ merges, vocabulary }: BpeModel, name: string): Merge[] {
  return merges.map(([leftText, rightText], rank) => {
    const left = vocabulary.get(leftText);
    const right = vocabulary.get(rightText);
    const merged = vocabulary.get(leftText + rightText);
    if (left === undefined || right === undefined || merged === undefined) {
      const pair = JSON.stringify(`${leftText} ${rightText}`);
      throw new FormatError(`${name}: merge ${rank}, ${pair}, has a part or a result outside the vocabulary.`);
    }
    return { left, right, rank, merged };
  });
}

/** A word as the tokens of its bytes or characters, which are then merged. */
function createSymbolizer(model: BpeModel): (word: string) => readonly number[] {
  const { vocabulary, isByteLevel, hasByteFallback, unknownId, fusesUnknown } = model;
  const byteIds = byteCharacters.map((character, byte) =>
    vocabulary.get(isByteLevel ? character : `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`),
  );
  return (word) => {
    const symbols: number[] = [];
    let isUnknown = false; // the last symbol stands for unknown characters
    function add(id: number | undefined): void {
      if (id !== undefined) symbols.push(id);
      else if (unknownId !== undefined && !(isUnknown && fusesUnknown)) symbols.push(unknownId);
      isUnknown = id === undefined;
    }
    if (isByteLevel) {
      for (const byte of utf8.encode(word)) add(byteIds[byte]);
      return symbols;
    }
    for (const character of word) {
      const id = vocabulary.get(character);
      const bytes =
        id === undefined && hasByteFallback ? Array.from(utf8.encode(character), (byte) => byteIds[byte]) : [];
      if (bytes.length === 0 || bytes.includes(undefined)) add(id);
      else for (const byte of bytes) add(byte);
    }
    return symbols;
  };
}

function toByteCharacters(word: string): string {
  return Array.from(utf8.encode(word), (byte) => byteCharacters[byte]).join("");
}

const utf8 = new TextEncoder();

/** Makes a pre-tokenizer whose words are the pattern's matches and what lies between them; `keeps` chooses what stays. */
export function splitBy(pattern: RegExp, keeps: "both" | "between" = "both"): PreTokenizer {
  return (texts) => {
    const words: string[] = [];
    for (const text of texts) {
      let done = 0;
      pattern.lastIndex = 0;
      for (let match = pattern.exec(text); match !== null; match = pattern.exec(text)) {
        const end = match.index + match[0].length;
        if (end === match.index) {
          pattern.lastIndex = end + 1; // an empty match cuts nothing
          continue;
        }
        if (match.index > done) words.push(text.slice(done, match.index));
        if (keeps === "both") words.push(match[0]);
        done = end;
      }
      if (done < text.length) words.push(text.slice(done));
    }
    return words;
  };
}

/** Makes a pre-tokenizer of several, each cutting what the one before it gave. */
export function inSequence(steps: readonly PreTokenizer[]): PreTokenizer {
  return (texts, isStart) => {
    let words: string[] = [...texts];
    for (const step of steps) words = step(words, isStart);
    return words;
  };
}
