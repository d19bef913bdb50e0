/** What a vocabulary of any kind is read into; `assembleTokenizer` makes the Tokenizer of it. */
export type TokenizerParts = {
  /** The file's name, for messages. */
  readonly name: string;
  readonly vocabSize: number;
  /** Gives the bytes of the text that a token stands for, special tokens included; undefined for an id without a token. */
  tokenBytes(token: number): Uint8Array | undefined;
  /** Appends the text's tokens, special ones included; no beginning-of-text token. The text is well-formed. */
  encodeText(text: string, out: number[]): void;
  readonly specialTokens: ReadonlySet<number>;
  readonly bosToken: number | undefined;
  readonly eosTokens: readonly number[];
  readonly addsBos: boolean;
  /** Whether encoding puts a space in front of a text, which decoding drops. */
  readonly dropsFirstSpace: boolean;
  /** Whether a broken sequence of UTF-8 becomes one U+FFFD for each of its bytes (utf8.ts). */
  readonly isReplacedPerByte: boolean;
  readonly chatTemplate: string | undefined;
  /** The chat template's variables: bos_token and the like. */
  readonly templateVariables: Readonly<Record<string, string>>;
};
