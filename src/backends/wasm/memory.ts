/**
 * Where things lie in the linear memory: the header, then what lasts (weights, caches, gradients, moments), then each thread's scratch,
 * the commands of all programs, and one arena that programs use in turn. What comes after what lasts is laid out anew whenever
 * a program comes or goes; what lasts stays where it is.
 */
import { alignUp } from "../../program/memory-plan.ts";
import { HEADER_BYTES } from "./header.ts";

export type Space = { readonly start: number; readonly bytes: number };

/** Hands out places for what lasts. */
export type Heap = {
  /** First byte after all places. */
  readonly end: number;
  /** Bytes below this may hold something; above, memory is as the engine gave it: zeros. */
  readonly touched: number;
  take(bytes: number): Space;
  give(space: Space): void;
  /** Everything up to `end` has been used. */
  touch(end: number): void;
};

export function createHeap(): Heap {
  let end = HEADER_BYTES;
  let touched = HEADER_BYTES;
  let free: Space[] = []; // by start, neighbours merged
  return {
    get end() {
      return end;
    },
    get touched() {
      return touched;
    },
    take(wanted) {
      const bytes = alignUp(wanted);
      const fits = free.filter((space) => space.bytes >= bytes);
      const best = fits.toSorted((a, b) => a.bytes - b.bytes)[0];
      if (!best) {
        const start = end;
        end += bytes;
        return { start, bytes };
      }
      free = free.filter((space) => space !== best);
      if (best.bytes > bytes) free.push({ start: best.start + bytes, bytes: best.bytes - bytes });
      return { start: best.start, bytes };
    },
    give(space) {
      free = merge([...free, space]);
      const last = free.at(-1);
      if (last && last.start + last.bytes === end) {
        end = last.start;
        free.pop();
      }
    },
    touch(to) {
      touched = Math.max(touched, to);
    },
  };
}

function merge(spaces: readonly Space[]): Space[] {
  const merged: Space[] = [];
  for (const space of spaces.toSorted((a, b) => a.start - b.start)) {
    const before = merged.at(-1);
    if (before && before.start + before.bytes === space.start) {
      merged[merged.length - 1] = { start: before.start, bytes: before.bytes + space.bytes };
    } else {
      merged.push(space);
    }
  }
  return merged;
}
