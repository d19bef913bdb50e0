/** What inference asks of a tokenizer, and the checks on token ids at its edges. */

/** The part of a tokenizer that generation and scoring use. */
export type TextCodec = {
  readonly vocabSize: number;
  readonly bosToken: number | undefined;
  readonly eosTokens: readonly number[];
  encode(text: string, options?: { addBos?: boolean }): number[];
  /** Makes a decoder of a stream. @param context the tokens before the first one pushed, so that a leading space is kept. */
  createDecoder(context?: readonly number[]): { push(token: number): string; end(): string };
};

/** Copies `tokens` into a plain array. @throws {RangeError} for an id that the model doesn't have. */
export function checkTokens(where: string, tokens: ArrayLike<number>, vocabSize: number): number[] {
  const copy: number[] = Array.from({ length: tokens.length });
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i]!;
    if (!Number.isInteger(token) || token < 0 || token >= vocabSize) {
      throw new RangeError(
        `${where}: token ids must be whole numbers from 0 to ${vocabSize - 1}, got ${String(token)} at index ${i}. Is the text from another tokenizer?`,
      );
    }
    copy[i] = token;
  }
  return copy;
}

/** Counts the tokens that both start with, up to `most`. */
export function commonPrefix(a: readonly number[], b: readonly number[], most: number): number {
  const end = Math.min(a.length, b.length, most);
  let length = 0;
  while (length < end && a[length] === b[length]) length++;
  return length;
}

/** Gives the token ids of `input`. @throws {TypeError} for a string without a tokenizer, and for anything else. */
export function toTokens(
  where: string,
  input: string | ArrayLike<number>,
  tokenizer: TextCodec | undefined,
  vocabSize: number,
  options?: { addBos?: boolean },
): number[] {
  if (typeof input === "string") {
    if (!tokenizer) {
      throw new TypeError(`${where}: this model came without a tokenizer, got a string. Give an array of token ids.`);
    }
    return checkTokens(where, tokenizer.encode(input, options), vocabSize);
  }
  if (typeof input !== "object" || input === null || !Number.isInteger(input.length)) {
    throw new TypeError(`${where}: expected a string or an array of token ids, got ${describe(input)}.`);
  }
  return checkTokens(where, input, vocabSize);
}

/** Writes a value for an error message. */
export function describe(value: unknown): string {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "object" && value !== null) return Array.isArray(value) ? "an array" : "an object";
  return typeof value === "function" ? "a function" : String(value);
}
