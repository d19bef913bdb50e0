/** A long text in token ids that lies somewhere else. */
export type TokenStream = {
  /** How many tokens there are. */
  readonly length: number;
  /** Reads `count` tokens from `start` on; the range must lie inside. */
  read(start: number, count: number): Promise<ArrayLike<number>>;
};

/** Makes one stream of several, one after the other. */
export function joinStreams(parts: readonly TokenStream[]): TokenStream {
  const placed: { readonly part: TokenStream; readonly first: number }[] = [];
  let length = 0;
  for (const part of parts) {
    placed.push({ part, first: length });
    length += part.length;
  }
  return {
    length,
    async read(start, count) {
      const tokens = new Uint32Array(count);
      let done = 0;
      for (const { part, first } of placed.slice(placed.findLastIndex(({ first }) => first <= start))) {
        const from = start + done - first;
        const taken = Math.min(count - done, part.length - from);
        if (taken === count) return part.read(from, count);
        tokens.set(await part.read(from, taken), done);
        done += taken;
        if (done === count) break;
      }
      return tokens;
    },
  };
}

/** Makes a stream of tokens that are in memory. */
export function streamOf(tokens: ArrayLike<number>): TokenStream {
  return {
    length: tokens.length,
    read: async (start, count) => Array.prototype.slice.call(tokens, start, start + count) as number[],
  };
}
