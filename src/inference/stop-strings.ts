/** Finds stop strings in text that comes in pieces, wherever the pieces' borders lie. */
export type StopFinder = {
  /** Gives the text that is now certain to be shown. Once `found` is set, nothing more follows. */
  push(text: string): string;
  /** Gives the text that was held back. */
  end(): string;
  /** The stop string that came. It and what follows it are never given out. */
  readonly found: string | undefined;
};

/** Makes a finder; of several stop strings the one that is complete first counts, and of those the longest. */
export function createStopFinder(stops: readonly string[]): StopFinder {
  let held = "";
  let found: string | undefined;

  /** The start of the first complete stop string in `held`, or −1. */
  function search(): number {
    let start = -1;
    let end = Infinity;
    for (const stop of stops) {
      const at = held.indexOf(stop);
      if (at < 0 || at + stop.length > end) continue;
      if (at + stop.length === end && at > start) continue;
      start = at;
      end = at + stop.length;
      found = stop;
    }
    return start;
  }

  return {
    get found() {
      return found;
    },
    push(text) {
      if (found !== undefined) return "";
      held += text;
      const start = search();
      const shown = start >= 0 ? start : held.length - longestStart(held, stops);
      const result = held.slice(0, shown);
      held = start >= 0 ? "" : held.slice(shown);
      return result;
    },
    end() {
      const rest = held;
      held = "";
      return rest;
    },
  };
}

/** Length of the longest end of `text` that begins a stop string. */
function longestStart(text: string, stops: readonly string[]): number {
  let longest = 0;
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(stop.slice(0, length))) longest = length;
    }
  }
  return longest;
}
