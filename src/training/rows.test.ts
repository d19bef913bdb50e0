import { expect, it } from "vitest";
import { packTrainingRows, type Row } from "./rows.ts";

const pack = (...rows: Row[]): ReturnType<typeof packTrainingRows> => packTrainingRows(rows, 10, 4);

it("predicts each token from those before it", () => {
  expect(pack([1, 2, 3, 4], Uint16Array.of(5, 6, 7, 8))).toEqual({
    tokens: Int32Array.of(1, 2, 3, 5, 6, 7),
    targets: Int32Array.of(2, 3, 4, 6, 7, 8),
    length: 3,
    count: 6,
  });
});

it("pads shorter rows where nothing is to be learned", () => {
  expect(pack([1, 2], [3, 4, 5, 6], [7], [])).toEqual({
    tokens: Int32Array.of(1, 0, 0, 3, 4, 5, 0, 0, 0, 0, 0, 0),
    targets: Int32Array.of(2, -1, -1, 4, 5, 6, -1, -1, -1, -1, -1, -1),
    length: 3,
    count: 4,
  });
});

it("leaves out targets that are masked; the first token is never one", () => {
  const { targets, count } = pack({ tokens: [1, 2, 3, 4], learn: Uint8Array.of(1, 0, 1, 0) });
  expect(targets).toEqual(Int32Array.of(-1, 3, -1));
  expect(count).toBe(1);
});

it.each([
  [[[1, 10]], "row 0: token ids below 10 were required, got 10 at 1."],
  [
    [
      [1, 2],
      [-1, 2],
    ],
    "row 1: token ids below 10 were required, got -1 at 0.",
  ],
  [[[1, 2.5]], "row 0: token ids below 10 were required, got 2.5 at 1."],
  [[[1, NaN]], "row 0: token ids below 10 were required, got NaN at 1."],
  [[[1, 2, 3, 4, 5, 6]], "training rows: at most 5 tokens (the model's context and one), got 6."],
  [[{ tokens: [1, 2], learn: [1] }], "row 0: learn must be as long as tokens (2), got 1."],
  [[], "training rows: at least one was required, got none."],
])("refuses %j", (rows, message) => {
  expect(() => pack(...rows)).toThrow(message);
});
