/** Which data set the next row comes from, and which row of it: all of it follows from a seed and a few counters. */
import { describe, FormatError, isObject } from "../../errors.ts";
import * as o from "../../options.ts";
import { createOrder } from "./row-order.ts";
import type { Row, RowSource } from "./rows.ts";

/** A data set as a part of a mixture. */
export type MixturePart = {
  /** The data set's name, for messages. */
  readonly name: string;
  readonly train: RowSource;
  readonly heldOut: RowSource;
  /** UTF-8 bytes of the held-out text. */
  readonly heldOutBytes: number;
  /** Share of the rows, relative to the other weights. If no part has one, each is drawn in proportion to its size. */
  readonly weight?: number | undefined;
};

/** Where a loader stands, as JSON: rows drawn from each data set, and what must be the same to go on. */
export type LoaderPosition = {
  readonly version: 1;
  readonly length: number;
  readonly seed: number;
  readonly parts: readonly { readonly rows: number; readonly drawn: number }[];
};

/** Gives rows to train on, one after the other, and rows to measure with. */
export type Loader = {
  /** Gives the next rows of length + 1 token ids. It never ends: a data set that was seen whole is shuffled anew. */
  next(count: number): Promise<Row[]>;
  /** Where the loader is after the last `next`: one that is opened with it goes on with the row that would have come. */
  readonly position: LoaderPosition;
  /** How many times as many rows were drawn as all data sets hold, rounded down. */
  readonly epoch: number;
  /** How many tokens are learned while all rows are seen once. */
  readonly tokensPerEpoch: number;
  /**
   * Gives the held-out rows in their order, a few at a time. With `maxRows` so many, spread evenly over each data set's, but
   * one of each at least.
   */
  heldOut(maxRows?: number): AsyncIterable<Row[]>;
  /** Bytes of held-out text for each of its tokens, end-of-text ones included: nats a token / ln 2 / this are bits a byte. */
  readonly heldOutBytesPerToken: number;
};

/** What decides which rows come, besides the data. */
export type LoaderSettings = {
  /** Targets of a row, which has one token more. */
  readonly length: number;
  /** The order of the rows follows from it. */
  readonly seed: number;
  /** What a loader gave as its `position`, perhaps out of a file. */
  readonly position?: unknown;
};

export const loaderEntries: o.Entries<LoaderSettings> = {
  length: o.count,
  seed: o.number({ isWhole: true }),
  position: o.optional(o.anything), // checked against the data
};

const HELD_OUT_ROWS_AT_ONCE = 16;

/**
 * Makes a loader that mixes data sets by their weights.
 * @throws {RangeError} for settings that don't go together, {FormatError} for an empty data set or a damaged position.
 */
export function createLoader(parts: readonly MixturePart[], { length, seed, position }: LoaderSettings): Loader {
  checkWeights(parts);
  const weightOf = ({ weight, train }: MixturePart): number => weight ?? train.count;
  const totalWeight = sum(parts.map(weightOf));
  const drawnBefore = position === undefined ? [] : drawnAt(position, parts, length, seed);
  const draws = parts.map((part, index) =>
    createDraws(part.train, weightOf(part) / totalWeight, drawnBefore[index] ?? 0, [seed, index]),
  );
  const drawn = (): number => sum(draws.map((part) => part.drawn));
  const heldOutTokens = sum(parts.map(({ heldOut }) => heldOut.targets));
  const rowsPerEpoch = sum(parts.map(({ train }) => train.count));

  /** The data set that is furthest behind its share; so every beginning of a run has the proportions asked for. */
  function drawNext(): Promise<Row> {
    const after = drawn() + 1;
    const lagOf = (part: Draws): number => part.share * after - part.drawn;
    return draws.reduce((best, part) => (lagOf(part) > lagOf(best) + 1e-9 ? part : best)).next();
  }

  return {
    next: (count) => Promise.all(Array.from({ length: count }, drawNext)),
    get position(): LoaderPosition {
      return {
        version: 1,
        length,
        seed,
        parts: draws.map((part) => ({ rows: part.count, drawn: part.drawn })),
      };
    },
    get epoch() {
      return Math.floor(drawn() / rowsPerEpoch);
    },
    tokensPerEpoch: sum(parts.map(({ train }) => train.targets)),
    async *heldOut(maxRows = Number.POSITIVE_INFINITY) {
      const share = Math.min(1, maxRows / sum(parts.map(({ heldOut }) => heldOut.count)));
      for (const { heldOut } of parts) {
        // At least one of each, so that no data set goes unmeasured.
        const taken = heldOut.count === 0 ? 0 : Math.max(1, Math.floor(share * heldOut.count));
        for (let first = 0; first < taken; first += HELD_OUT_ROWS_AT_ONCE) {
          const indices = Array.from({ length: Math.min(HELD_OUT_ROWS_AT_ONCE, taken - first) }, (_, i) =>
            Math.floor(((first + i) * heldOut.count) / taken),
          );
          yield await Promise.all(indices.map((index) => heldOut.read(index)));
        }
      }
    },
    heldOutBytesPerToken: heldOutTokens === 0 ? 0 : sum(parts.map(({ heldOutBytes }) => heldOutBytes)) / heldOutTokens,
  };
}

type Draws = ReturnType<typeof createDraws>;

/** The rows of one data set, in an order that is another in each epoch. @param share of all rows, from 0 to 1. */
function createDraws(rows: RowSource, share: number, drawnBefore: number, keys: readonly number[]) {
  const { count } = rows;
  let drawn = drawnBefore;
  let orderEpoch = -1;
  let order = (index: number): number => index;
  return {
    count,
    share,
    get drawn(): number {
      return drawn;
    },
    next(): Promise<Row> {
      const index = drawn++;
      const epoch = Math.floor(index / count);
      if (epoch !== orderEpoch) {
        order = createOrder(count, [...keys, epoch]);
        orderEpoch = epoch;
      }
      return rows.read(order(index % count));
    },
  };
}

function checkWeights(parts: readonly MixturePart[]): void {
  if (parts.length === 0) throw new RangeError("loader: one data set or more was required, got none.");
  for (const { name, train, weight } of parts) {
    if (train.count === 0) throw new FormatError(`${name}: tokens to train on were required, it holds none.`);
    if (weight !== undefined && !(weight > 0 && weight < Number.POSITIVE_INFINITY)) {
      throw new RangeError(`loader: the weight of ${name} must be a number above 0, got ${weight}.`);
    }
  }
  const without = parts.find(({ weight }) => weight === undefined);
  if (without !== undefined && parts.some(({ weight }) => weight !== undefined)) {
    throw new RangeError(`loader: weights were required for all data sets or for none, ${without.name} has none.`);
  }
}

/** A position comes out of somebody's file. */
function drawnAt(position: unknown, parts: readonly MixturePart[], length: number, seed: number): number[] {
  if (!isObject(position) || position["version"] !== 1 || !Array.isArray(position["parts"])) {
    throw new FormatError(`loader: a loader's position of version 1 was required, got ${describe(position)}.`);
  }
  if (position["length"] !== length || position["seed"] !== seed) {
    throw new RangeError(
      `loader: the position was taken with length ${describe(position["length"])} and seed ${describe(position["seed"])}, got length ${length} and seed ${seed}. Go on with the settings that the run began with.`,
    );
  }
  const known = (position["parts"] as unknown[]).map((part) => {
    const { rows, drawn } = isObject(part) ? part : {};
    if (!Number.isSafeInteger(rows) || !Number.isSafeInteger(drawn) || (drawn as number) < 0) {
      throw new FormatError(`loader: counts of rows were required in a position, got ${describe(part)}.`);
    }
    return { rows: rows as number, drawn: drawn as number };
  });
  const rows = parts.map(({ train }) => train.count).join(", ");
  const knownRows = known.map((part) => part.rows).join(", ");
  if (rows !== knownRows) {
    throw new RangeError(
      `loader: the position belongs to data sets of ${knownRows} rows, got ${rows}. Go on with the data sets that the run began with.`,
    );
  }
  return known.map(({ drawn }) => drawn);
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
