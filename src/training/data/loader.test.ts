import { array, assert as assertProperty, integer, property } from "fast-check";
import { describe, expect, it } from "vitest";
import { createLoader, type LoaderPosition, type LoaderSettings, type MixturePart } from "./loader.ts";
import { type Row, windowRows } from "./rows.ts";
import { streamOf } from "./token-stream.ts";

/** A part whose tokens are `first`, `first` + 1, …: a token says where it is from. */
function part(first: number, tokens: number, length: number, weight?: number): MixturePart {
  const ids = (from: number, count: number): number[] => Array.from({ length: count }, (_, i) => from + i);
  return {
    name: `part ${first}`,
    train: windowRows(streamOf(ids(first, tokens)), length),
    heldOut: windowRows(streamOf(ids(first + 500_000, 3 * length)), length),
    heldOutBytes: 12 * length,
    ...(weight !== undefined && { weight }),
  };
}

/** The targets that count. */
function targetsOf(row: Row): number[] {
  const { tokens, learn } = "learn" in row ? row : { tokens: row, learn: undefined };
  return Array.from(tokens).filter((_, i) => i > 0 && (learn === undefined || learn[i] === 1));
}

const LENGTH = 4;
const settings: LoaderSettings = { length: LENGTH, seed: 3 };

describe("a loader", () => {
  it("gives each token as a target exactly once an epoch, each with the token before it", async () => {
    await Promise.all(
      [1, 3, 4, 5, 9, 40, 41, 43].map(async (tokens) => {
        const loader = createLoader([part(0, tokens, LENGTH)], settings);
        const rowsPerEpoch = Math.ceil(tokens / LENGTH);
        for (let epoch = 0; epoch < 3; epoch++) {
          expect(loader.epoch).toBe(epoch);
          const rows = await loader.next(rowsPerEpoch);
          expect(rows.flatMap(targetsOf).sort((a, b) => a - b)).toEqual(Array.from({ length: tokens }, (_, i) => i));
          for (const row of rows) {
            const ids = Array.from("learn" in row ? row.tokens : row);
            expect(ids).toHaveLength(LENGTH + 1);
            for (let i = 1; i < ids.length; i++) expect(ids[i]).toBe((ids[i - 1]! + 1) % tokens);
          }
        }
        expect(loader.tokensPerEpoch).toBe(tokens);
      }),
    );
  });

  it("shuffles anew in each epoch, and by the seed", async () => {
    const epochs = async (seed: number): Promise<string[]> => {
      const loader = createLoader([part(0, 400, LENGTH)], { length: LENGTH, seed });
      return Promise.all([1, 2, 3].map(async () => JSON.stringify(await loader.next(100))));
    };
    const [a, b] = [await epochs(1), await epochs(2)];
    expect(new Set([...a, ...b]).size).toBe(6);
    expect(await epochs(1)).toEqual(a);
  });

  it("keeps the mix at every moment, whatever the sizes", () => {
    assertProperty(
      property(array(integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 }), (weights) => {
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        const parts = weights.map((weight, i) => part(1000 * i, 4 + 90 * i, LENGTH, weight));
        const loader = createLoader(parts, settings);
        for (let drawn = 1; drawn <= 60; drawn++) {
          void loader.next(1);
          for (const [i, { drawn: ofPart }] of loader.position.parts.entries()) {
            expect(Math.abs(ofPart - (drawn * weights[i]!) / total)).toBeLessThan(weights.length);
          }
        }
      }),
    );
  });

  it("draws each data set in proportion to its size when there are no weights: all of both in an epoch", async () => {
    const loader = createLoader([part(0, 40, LENGTH), part(1000, 400, LENGTH)], settings);
    const rows = await loader.next(110);
    expect(new Set(rows.flatMap(targetsOf)).size).toBe(440);
    expect(loader.epoch).toBe(1);
  });

  it("goes on from a position, through JSON, as if it had never stopped", async () => {
    const parts = [part(0, 41, LENGTH, 2), part(1000, 90, LENGTH, 1)];
    const whole = createLoader(parts, settings);
    const rows = await whole.next(100);
    for (const cut of [0, 1, 10, 57]) {
      const first = createLoader(parts, settings);
      await first.next(cut);
      const position = JSON.parse(JSON.stringify(first.position)) as LoaderPosition;
      const second = createLoader(parts, { ...settings, position });
      expect(await second.next(100 - cut)).toEqual(rows.slice(cut));
      expect(second.position).toEqual(whole.position);
      expect(second.epoch).toBe(whole.epoch);
    }
  });

  it("gives the held-out rows in order, the same each time, or evenly many of each data set", async () => {
    const loader = createLoader([part(0, 40, LENGTH), part(1000, 40, LENGTH)], settings);
    const collect = async (maxRows?: number): Promise<number[]> => {
      const targets: number[] = [];
      for await (const rows of loader.heldOut(maxRows)) targets.push(...rows.flatMap(targetsOf));
      return targets;
    };
    const all = [500_000, 501_000].flatMap((first) => Array.from({ length: 12 }, (_, i) => first + i));
    expect(await collect()).toEqual(all);
    expect(await collect(100)).toEqual(all);
    expect(await collect(2)).toEqual([...all.slice(0, 4), ...all.slice(12, 16)]);
    expect(loader.heldOutBytesPerToken).toBe(4);
  });

  it("refuses what it can't go on with", () => {
    const parts = [part(0, 41, LENGTH)];
    const { position } = createLoader(parts, settings);
    const open = (changed: object, other = parts): unknown =>
      createLoader(other, { ...settings, position: { ...position, ...changed } as LoaderPosition });
    expect(() => open({ length: 8 })).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: loader: the position was taken with length 8 and seed 3, got length 4 and seed 3. Go on with the settings that the run began with.]`,
    );
    expect(() => open({}, [part(0, 80, LENGTH)])).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: loader: the position belongs to data sets of 11 rows, got 20. Go on with the data sets that the run began with.]`,
    );
    expect(() => open({ version: 2 })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: loader: a loader's position of version 1 was required, got an object.]`,
    );
    expect(() => open({ parts: [{ rows: 11, drawn: -1 }] })).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: loader: counts of rows were required in a position, got {"rows":11,"drawn":-1}.]`,
    );
    expect(() => createLoader([], settings)).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: loader: one data set or more was required, got none.]`,
    );
    expect(() => createLoader([part(0, 8, 4, 1), part(9, 8, 4)], settings)).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: loader: weights were required for all data sets or for none, part 9 has none.]`,
    );
    expect(() => createLoader([part(0, 8, 4, 0)], settings)).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: loader: the weight of part 0 must be a number above 0, got 0.]`,
    );
    expect(() => createLoader([part(0, 0, 4)], settings)).toThrowErrorMatchingInlineSnapshot(
      `[FormatError: part 0: tokens to train on were required, it holds none.]`,
    );
  });
});
