import { describe, expect, it } from "vitest";
import { cache, ids, placesCache } from "../../program/recorder.ts";
import { createRandom } from "../../random.ts";
import type { Tensor } from "../../tensor/tensor.ts";
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
        const width = kvHeads * headSize;
        const keys = r.store({ cache: cache("keys", r.limits.positions, width), x: input(width) });
        const values = r.store({ cache: cache("values", r.limits.positions, width), x: input(width) });
        return r.attention({ q: input(heads * headSize), keys, values, headSize });
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
  const inOrder = Array.from({ length: 14 }, (_, row) => row);
  const shuffled = inOrder.map((row) => (row * 5 + 3) % 14);

  it.each([
    ["in order", inOrder],
    ["in any order", shuffled],
  ])("agrees with its oracle, rows %s", (_, order) =>
    expectAgreement({
      tokens: 14,
      record({ r, input, table }) {
        const slots = table(ids("slots", "tokens"), order);
        const keys = r.store({ cache: cache("keys", 14, kvHeads * headSize), x: input(kvHeads * headSize), slots });
        const values = r.store({ cache: cache("values", 14, kvHeads * headSize), x: input(kvHeads * headSize), slots });
        const where = table(placesCache(14), places);
        return r.attention({ q: input(heads * headSize), keys, values, slots, places: where, headSize });
      },
    }),
  );

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
          const slots = at && table(ids("slots", "tokens"), chosen);
          const stored = (name: string, start: number): Tensor =>
            r.store({ cache: cache(name, 14, kvHeads * headSize), x: part(start, kvHeads * headSize), slots });
          const keys = stored("keys", width);
          const values = stored("values", width + kvHeads * headSize);
          const texts = at && table(placesCache(14), at);
          return r.attention({ q: part(0, width), keys, values, slots, places: texts, headSize });
        },
      });
    const together = await run(inOrder, places);
    const rowOf = (all: Float32Array, at: number): number[] => [...all.subarray(at * width, (at + 1) * width)];
    for (const text of texts) {
      const alone = await run(text);
      expect([...alone]).toEqual(text.flatMap((row) => rowOf(together, row)));
    }
    const mixed = await run(shuffled, places);
    expect([...mixed]).toEqual(shuffled.flatMap((row) => rowOf(together, row)));
  });
});
