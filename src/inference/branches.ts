/**
 * Texts that share beginnings, run many rows at once: each hangs as a branch on what the key/value cache holds of it. A
 * row sees the rows of its own text only, so that its numbers are those it would have alone, bit for bit.
 */
import { PLACE_WORDS, putPlace } from "../tensor/places.ts";
import type { Batch } from "./batch.ts";
import { commonPrefix } from "./tokens.ts";

/** A text, and the tokens that are asked about: `targets[i]` after position `from + i`, its last after the last token. */
export type Text = { readonly tokens: readonly number[]; readonly from: number; readonly targets: readonly number[] };

/** Rows that run together, in cache rows that follow each other, with a question for each entry of `rows`. */
export type Branches = Batch & {
  readonly targets: readonly number[];
  /** The index of each question's text. A text's questions come in order. */
  readonly texts: readonly number[];
};

export type BranchLimits = {
  /** Rows of the cache. */
  readonly cacheRows: number;
  /** Rows and questions that run together. */
  readonly maxTokens: number;
  readonly maxOutputs: number;
};

export type BranchPlan = {
  /** Begins, or goes on, with a cache that holds one text from row 0 on. */
  restart(held: readonly number[], limits: BranchLimits): void;
  /** The next rows; undefined when every question was put. */
  next(): Branches | undefined;
};

/**
 * Goes through `count` texts in order; neighbours that start alike share rows. None may be longer than the context.
 * Rows of the cache fill up from branch to branch; when they are used up, all but the beginning is given up.
 */
export function planBranches(count: number, textAt: (index: number) => Text): BranchPlan {
  let index = 0;
  let asked = 0; // questions of text `index` that were put
  let limits: BranchLimits = { cacheRows: 0, maxTokens: 0, maxOutputs: 0 };
  /** The text before: its tokens, and the cache row of each as far as they were run. */
  let known: readonly number[] = [];
  let path: number[] = [];
  let nextRow = 0;
  let starts = new Int32Array(0); // by cache row
  let parents = new Int32Array(0);

  /** Positions whose rows need not run again. Those asked about must, unless they run now anyway. */
  function sharedWith({ tokens, from }: Text, firstRow: number): number {
    const shared = commonPrefix(known, tokens, path.length);
    const open = from + asked;
    return shared > open && path[open]! < firstRow ? open : shared;
  }

  /** Rows in their own places at the beginning: position = cache row. */
  function giveUpBranches(shared: number): number {
    let kept = 0;
    while (kept < shared && path[kept] === kept) kept++;
    return kept;
  }

  function addRow(position: number): void {
    const row = nextRow++;
    const before = position > 0 ? path[position - 1]! : -1;
    const goesOn = position > 0 && before === row - 1;
    starts[row] = goesOn ? starts[before]! : row;
    parents[row] = goesOn ? parents[before]! : before;
    path[position] = row;
  }

  function next(): Branches | undefined {
    let firstRow = nextRow;
    const tokens: number[] = [];
    const positions: number[] = [];
    const questions: { row: number; target: number; text: number }[] = [];

    while (index < count) {
      const text = textAt(index);
      let shared = sharedWith(text, firstRow);
      if (nextRow + text.tokens.length - shared > limits.cacheRows) {
        if (tokens.length > 0) break;
        shared = giveUpBranches(Math.min(shared, text.from + asked));
        nextRow = firstRow = shared;
      }
      known = text.tokens;
      path.length = shared;
      for (let position = Math.min(shared, text.from + asked); position < text.tokens.length; position++) {
        const isAsked = position === text.from + asked;
        const isNew = position >= shared;
        if ((isNew && tokens.length === limits.maxTokens) || (isAsked && questions.length === limits.maxOutputs)) {
          return finish();
        }
        if (isNew) {
          addRow(position);
          tokens.push(text.tokens[position]!);
          positions.push(position);
        }
        if (isAsked) {
          questions.push({ row: path[position]! - firstRow, target: text.targets[asked]!, text: index });
          asked++;
        }
      }
      index++;
      asked = 0;
    }
    return tokens.length > 0 ? finish() : undefined;

    function finish(): Branches {
      const places = new Int32Array(tokens.length * PLACE_WORDS);
      for (const [i, position] of positions.entries()) {
        putPlace(places, i, { start: starts[firstRow + i]!, parent: parents[firstRow + i]!, position });
      }
      return {
        tokens,
        slots: tokens.map((_, i) => firstRow + i),
        places,
        rows: questions.map(({ row }) => row),
        targets: questions.map(({ target }) => target),
        texts: questions.map(({ text }) => text),
      };
    }
  }

  return {
    restart(held, given) {
      limits = given;
      known = held.slice();
      path = held.map((_, row) => row);
      nextRow = held.length;
      starts = new Int32Array(limits.cacheRows);
      parents = new Int32Array(limits.cacheRows).fill(-1);
    },
    next,
  };
}
