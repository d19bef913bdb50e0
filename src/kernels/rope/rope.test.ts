import { describe, it } from "vitest";
import { expectAgreement, rowCounts } from "../../../test/support/kernel-agreement.ts";
import { constant, ids, placesCache } from "../../program/recorder.ts";

describe.each(rowCounts)("rope of %i rows", (tokens) => {
  it.each([4, 6, 28, 64, 80])("agrees with its oracle at head size %i", (headSize) =>
    expectAgreement({
      tokens,
      record({ r, input }) {
        const angles = Float32Array.from({ length: r.limits.positions * headSize }, (_, i) => Math.sin(i));
        return r.rope({ x: input(3 * headSize), angles: constant("angles", angles, headSize), isInverse: 0 });
      },
    }),
  );

  it("turns a row by the position of the cache row that it stands in", () =>
    expectAgreement({
      tokens,
      record({ r, input, table }) {
        const angles = Float32Array.from({ length: r.limits.positions * 6 }, (_, i) => Math.sin(i));
        const rows = Array.from({ length: tokens }, (_, row) => row);
        return r.rope({
          x: input(12),
          angles: constant("angles", angles, 6),
          slots: table(ids("slots", "tokens"), rows.toReversed()),
          places: table(
            placesCache(tokens),
            rows.flatMap((row) => [0, -1, (row * 2) % tokens]),
          ),
          isInverse: 0,
        });
      },
    }));
});
