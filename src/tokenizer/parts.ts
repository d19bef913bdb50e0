/** What a vocabulary of any kind is read into; `assembleTokenizer` makes the Tokenizer of it. */
export type TokenizerParts = {
  /** For messages. */
  readonly name: string;
  readonly vocabSize: number;
  /** The bytes of the text that a token stands for, special tokens included; undefined for an id without a token. */
  tokenBytes(token: number): Uint8Array | undefined;
  /** Appends the text's tokens, special ones included; no beginning-of-text token. The text is well-formed. */
  encodeText(text: string, out: number[]): void;
  readonly specialTokens: ReadonlySet<number>;
  readonly bosToken: number | undefined;
  readonly eosTokens: readonly number[];
  readonly addsBos: boolean;
  /** Encoding puts a space in front of a text; decoding drops it. */
  readonly dropsFirstSpace: boolean;
  /** See createUtf8Stream. */
  readonly isReplacedPerByte: boolean;
  readonly chatTemplate: string | undefined;
  /** bos_token and the like, for the chat template. */
  readonly templateVariables: Readonly<Record<string, string>>;
};
