/** A long text as windows that the model can read. */
import type { EncodedPair } from "../inference/score.ts";

/**
 * Cuts a text into the harness's disjoint rolling windows: each token is predicted once. The first window stands after `prefix` alone, each
 * next one after the token before it; the last reads as much as fits.
 */
export function rollingWindows(tokens: readonly number[], prefix: number, contextLength: number): EncodedPair[] {
  const windows: EncodedPair[] = [];
  for (let start = 0; start < tokens.length; start += contextLength) {
    const end = Math.min(start + contextLength, tokens.length);
    windows.push({
      context: start === 0 ? [prefix] : tokens.slice(end - contextLength - 1, start),
      continuation: tokens.slice(start, end),
    });
  }
  return windows;
}

/** Cuts a text into windows side by side, the first token of each not predicted, and drops what fills no window. */
export function chunkWindows(tokens: readonly number[], contextLength: number): EncodedPair[] {
  return Array.from({ length: Math.floor(tokens.length / contextLength) }, (_, i) => {
    const chunk = tokens.slice(i * contextLength, (i + 1) * contextLength);
    return { context: chunk.slice(0, 1), continuation: chunk.slice(1) };
  });
}
