import { describe, expect, test } from "vitest";
import { createRandom } from "../random.ts";
import { createStopFinder } from "./stop-strings.ts";

function shown(pieces: string[], stops: string[]): { text: string; found: string | undefined } {
  const finder = createStopFinder(stops);
  let text = "";
  for (const piece of pieces) {
    text += finder.push(piece);
    if (finder.found !== undefined) break;
  }
  if (finder.found === undefined) text += finder.end();
  return { text, found: finder.found };
}

describe("stop strings", () => {
  test("are found across pieces and hold back no more than they must", () => {
    const finder = createStopFinder(["\n\n", "END"]);
    expect(["a\n", "b", "E", "N", "x\n", "\nrest"].map((piece) => finder.push(piece))).toEqual([
      "a",
      "\nb",
      "",
      "",
      "ENx",
      "",
    ]);
    expect(finder.found).toBe("\n\n");
  });

  test("of several, the first complete one counts, and of those the longest", () => {
    expect(shown(["abcd"], ["abcd", "bc"])).toEqual({ text: "a", found: "bc" });
    expect(shown(["xabc"], ["c", "abc", "bc"])).toEqual({ text: "x", found: "abc" });
    expect(shown(["aab"], ["ab"])).toEqual({ text: "a", found: "ab" });
  });

  test("do not depend on where the pieces' borders lie", () => {
    const random = createRandom(8);
    for (let round = 0; round < 500; round++) {
      const word = (longest: number): string =>
        Array.from({ length: 1 + random.below(longest) }, () => "abc"[random.below(3)]).join("");
      const text = word(30);
      const stops = Array.from({ length: 1 + random.below(3) }, () => word(5));
      const pieces: string[] = [];
      for (let at = 0; at < text.length;) {
        const length = random.below(5);
        pieces.push(text.slice(at, at + length));
        at += length;
      }
      expect(shown(pieces, stops)).toEqual(shown([text], stops));
      expect(shown(pieces, stops)).toEqual(shown(text.split(""), stops));
    }
  });
});
