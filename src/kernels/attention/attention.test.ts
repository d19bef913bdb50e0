import { describe, expect, it } from "vitest";
import type { Tensor } from "../../program/operation.ts";
import { createRandom } from "../../random.ts";
import { expectAgreement, rowCounts, runCase, wasm } from "../../../test/support/kernel-agreement.ts";

describe.each(rowCounts)("attention of %i rows", (tokens) => {
  it.each([
    [4, 4, 16],
    [9, 3, 64],
    [3, 1, 28],
    [2, 1, 80],
    [2, 2, 6],
  ])("agrees with its oracle for %i heads, %i key/value heads of %i", (heads, kvHeads, headSize) =>
    expectAgreement({
      tokens,
      position: tokens === 1 ? 0 : 1,
      record({ r, input }) {
        const keys = r.store(input(kvHeads * headSize), r.cache("keys", kvHeads * headSize));
        const values = r.store(input(kvHeads * headSize), r.cache("values", kvHeads * headSize));
        return r.attention(input(heads * headSize), keys, values, headSize);
      },
    }),
  );
});

describe("attention of several texts in one cache", () => {
  /** Cache rows 0–5 are a text; 6–8 go on from row 3, 9–10 from row 7, 11–12 are a text of their own, 13 from row 12. */
  const places = [
    ...[0, 1, 2, 3, 4, 5].map((row) => [0, -1, row]),
    ...[4, 5, 6].map((position) => [6, 3, position]),
    ...[6, 7].map((position) => [9, 7, position]),
    ...[0, 1, 2].map((position) => [11, -1, position]),
  ].flat();
  const texts = [
    [0, 1, 2, 3, 4, 5],
    [0, 1, 2, 3, 6, 7, 8],
    [0, 1, 2, 3, 6, 7, 9, 10],
    [11, 12, 13],
  ];
  const [heads, kvHeads, headSize] = [8, 2, 84]; // three of a group of four together, 64 elements and a rest

  it("agrees with its oracle", () =>
    expectAgreement({
      tokens: 14,
      record({ r, input, table }) {
        const keys = r.store(input(kvHeads * headSize), r.cache("keys", kvHeads * headSize));
        const values = r.store(input(kvHeads * headSize), r.cache("values", kvHeads * headSize));
        return r.attention(input(heads * headSize), keys, values, headSize, table(r.places(), places));
      },
    }));

  it("gives each row the bits that it has alone", async () => {
    const width = heads * headSize;
    const random = createRandom(1);
    const rows = Array.from({ length: 14 }, () =>
      Float32Array.from({ length: width + 2 * kvHeads * headSize }, () => random.normal()),
    );
    const run = (chosen: number[], at?: number[]): Promise<Float32Array> =>
      runCase(wasm, {
        tokens: chosen.length,
        record({ r, filled, table }) {
          const part = (start: number, cols: number): Tensor =>
            filled(cols, Float32Array.from(chosen.flatMap((row) => [...rows[row]!.subarray(start, start + cols)])));
          const keys = r.store(part(width, kvHeads * headSize), r.cache("keys", kvHeads * headSize));
          const values = r.store(
            part(width + kvHeads * headSize, kvHeads * headSize),
            r.cache("values", kvHeads * headSize),
          );
          return r.attention(part(0, width), keys, values, headSize, at && table(r.places(), at));
        },
      });
    const together = await run(
      rows.map((_, row) => row),
      places,
    );
    for (const text of texts) {
      const alone = await run(text);
      const expected = text.flatMap((row) => [...together.subarray(row * width, (row + 1) * width)]);
      expect([...alone]).toEqual(expected);
    }
  });
});
