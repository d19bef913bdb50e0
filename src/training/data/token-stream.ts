/** A long text in token ids that lies somewhere else. */
export type TokenStream = {
  /** How many tokens there are. */
  readonly length: number;
  /** Reads `count` tokens from `start` on; the range must lie inside. */
  read(start: number, count: number): Promise<ArrayLike<number>>;
};

/** Makes one stream of several, one after the other. */
export function joinStreams(parts: readonly TokenStream[]): TokenStream {
  const starts: number[] = [];
  let length = 0;
  for (const part of parts) {
    starts.push(length);
    length += part.length;
  }
  return {
    length,
    async read(start, count) {
      let index = starts.findLastIndex((first) => first <= start);
      const first = parts[index];
      if (first !== undefined && start + count <= starts[index]! + first.length) {
        return first.read(start - starts[index]!, count);
      }
      const tokens = new Uint32Array(count);
      for (let done = 0; done < count; index++) {
        const from = start + done - starts[index]!;
        const taken = Math.min(count - done, parts[index]!.length - from);
        tokens.set(await parts[index]!.read(from, taken), done);
        done += taken;
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
