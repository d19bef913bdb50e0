/** Tokens that are found in the text before the model sees it: `<s>`, `<|im_start|>` and others a file adds. */
export type AddedToken = {
  readonly id: number;
  readonly content: string;
  readonly isSpecial: boolean;
  /** Whether it is searched for in the normalized text, not in the raw one. */
  readonly isNormalized: boolean;
  /** Whether it counts only where no word character touches it. */
  readonly isSingleWord: boolean;
  /** Whether it takes the white space on its left. */
  readonly stripsLeft: boolean;
  /** Whether it takes the white space on its right. */
  readonly stripsRight: boolean;
};

/** Calls `onText` for the text between tokens (`start`: where it was) and `onToken` for each token, in order. */
export type AddedTokenSplitter = (
  text: string,
  onText: (text: string, start: number) => void,
  onToken: (id: number) => void,
) => void;

/** Makes a splitter that finds the leftmost token, the longest there, as Hugging Face's Aho-Corasick automaton does. */
export function createAddedTokenSplitter(tokens: readonly AddedToken[]): AddedTokenSplitter {
  const byContent = new Map(tokens.filter((token) => token.content !== "").map((token) => [token.content, token]));
  if (byContent.size === 0) {
    return (text, onText) => {
      if (text !== "") onText(text, 0);
    };
  }
  const pattern = longestFirst([...byContent.keys()]);
  return (text, onText, onToken) => {
    let done = 0;
    for (const match of text.matchAll(pattern)) {
      const token = byContent.get(match[0])!;
      let start = match.index;
      let end = start + match[0].length;
      if (start < done) continue; // inside white space that a token before it took
      if (token.isSingleWord && (/[\p{L}\p{N}_]$/u.test(text.slice(done, start)) || startsWithWord(text, end)))
        continue;
      if (token.stripsLeft) while (start > done && isSpace(text[start - 1]!)) start--;
      if (token.stripsRight) while (end < text.length && isSpace(text[end]!)) end++;
      if (start > done) onText(text.slice(done, start), done);
      onToken(token.id);
      done = end;
    }
    if (done < text.length) onText(text.slice(done), done);
  };
}

/** Makes a pattern that finds any of these strings, the longest where several begin. */
export function longestFirst(strings: readonly string[]): RegExp {
  const sorted = [...strings].sort((a, b) => b.length - a.length);
  return new RegExp(sorted.map(escapeRegExp).join("|"), "gu");
}

/** Writes a text as a pattern that matches just this text. */
export function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
}

function startsWithWord(text: string, at: number): boolean {
  const pattern = /[\p{L}\p{N}_]/uy;
  pattern.lastIndex = at;
  return pattern.test(text);
}

function isSpace(character: string): boolean {
  return /\p{White_Space}/u.test(character);
}
