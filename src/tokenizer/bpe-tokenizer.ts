/** BPE over the words of a pre-tokenizer: what tokenizer.json's "BPE" model and GGUF's "gpt2" vocabularies share. */
import { FormatError } from "../errors.ts";
import { createAddedTokenSplitter, type AddedToken } from "./added-tokens.ts";
import { cacheWords, createMerger, type Merge } from "./bpe.ts";
import { byteCharacters } from "./byte-level.ts";
import { cutBeforeSpaces, hasSpaceInside, SPACE } from "./sentencepiece.ts";

/** Cuts texts further; the first text begins at the very start of the input if `isStart`. */
export type PreTokenizer = (texts: readonly string[], isStart: boolean) => string[];

export type BpeModel = {
  readonly vocabulary: ReadonlyMap<string, number>;
  readonly merges: readonly (readonly [string, string])[];
  /** Words are UTF-8 in GPT-2's byte alphabet. */
  readonly isByteLevel: boolean;
  /** Characters outside the vocabulary become `<0x00>`-style tokens. */
  readonly hasByteFallback: boolean;
  readonly unknownId: number | undefined;
  readonly fusesUnknown: boolean;
  /** A word that is an entry as a whole is not cut, merges or not. */
  readonly ignoresMerges: boolean;
};

export function createBpeEncoder(
  model: BpeModel,
  normalize: (text: string) => string,
  preTokenize: PreTokenizer,
  addedTokens: readonly AddedToken[],
  name: string,
): (text: string, out: number[]) => void {
  const { vocabulary } = model;
  const merge = createMerger(
    model.merges.map(([leftText, rightText], rank): Merge => {
      const left = vocabulary.get(leftText);
      const right = vocabulary.get(rightText);
      const merged = vocabulary.get(leftText + rightText);
      if (left === undefined || right === undefined || merged === undefined) {
        const pair = JSON.stringify(`${leftText} ${rightText}`);
        throw new FormatError(`${name}: merge ${rank}, ${pair}, has a part or a result outside the vocabulary.`);
      }
      return { left, right, rank, merged };
    }),
  );
  const byteIds = byteCharacters.map((character, byte) =>
    model.isByteLevel
      ? vocabulary.get(character)
      : vocabulary.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`),
  );
  const utf8 = new TextEncoder();

  function symbolsOf(word: string): number[] {
    const symbols: number[] = [];
    let isUnknown = false; // the last symbol stands for unknown characters
    function addUnknown(): void {
      if (model.unknownId !== undefined && !(isUnknown && model.fusesUnknown)) symbols.push(model.unknownId);
      isUnknown = true;
    }
    if (model.isByteLevel) {
      for (const byte of utf8.encode(word)) {
        const id = byteIds[byte];
        if (id === undefined) addUnknown();
        else {
          symbols.push(id);
          isUnknown = false;
        }
      }
      return symbols;
    }
    for (const character of word) {
      const id = vocabulary.get(character);
      const fallback =
        id !== undefined
          ? [id]
          : model.hasByteFallback
            ? Array.from(utf8.encode(character), (byte) => byteIds[byte])
            : [];
      if (fallback.length === 0 || fallback.includes(undefined)) addUnknown();
      else {
        for (const symbol of fallback) symbols.push(symbol!);
        isUnknown = false;
      }
    }
    return symbols;
  }

  const encodeWord = cacheWords((word) => {
    if (model.ignoresMerges) {
      const key = model.isByteLevel ? Array.from(utf8.encode(word), (byte) => byteCharacters[byte]).join("") : word;
      const id = vocabulary.get(key);
      if (id !== undefined) return [id];
    }
    const symbols = Int32Array.from(symbolsOf(word));
    return Array.from(symbols.subarray(0, merge(symbols, symbols.length)));
  });

  const isCut =
    !model.isByteLevel &&
    !model.ignoresMerges &&
    vocabulary.has(SPACE) &&
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

/** Every match of the pattern is a word, and so is what lies between; `keeps` chooses what stays. */
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

export function inSequence(steps: readonly PreTokenizer[]): PreTokenizer {
  return (texts, isStart) => {
    let words: string[] = [...texts];
    for (const step of steps) words = step(words, isStart);
    return words;
  };
}
