/** Documents as tokens: one after the other, an end-of-text token after each. */
import { FormatError } from "../../errors.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import type { DocumentPart } from "./documents.ts";

/** Gives the token that ends a document. @throws {FormatError} if the tokenizer names none. */
export function endOfText(tokenizer: Tokenizer): number {
  const [eosToken] = tokenizer.eosTokens;
  if (eosToken === undefined) {
    throw new FormatError(
      "tokenizer: an end-of-text token is required, its files name none. Add eos_token to tokenizer_config.json.",
    );
  }
  return eosToken;
}

/** Makes an encoder of parts that gives the tokens of the whole document, without a beginning-of-text token. */
export function createPartEncoder(tokenizer: Tokenizer): (part: DocumentPart) => number[] {
  const encode = (text: string): number[] => tokenizer.encode(text, { addBos: false });
  // A part goes on with a space. A tokenizer that puts one before every text must not get a second.
  const bringsSpace = encode("a b").join() !== [...encode("a"), ...encode(" b")].join();
  return ({ text, isFirst }) => encode(!isFirst && bringsSpace && text.startsWith(" ") ? text.slice(1) : text);
}
