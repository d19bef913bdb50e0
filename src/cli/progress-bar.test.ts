import { expect, it } from "vitest";
import { formatProgress, formatSeconds } from "./progress-bar.ts";

it("shows share, speed and time left", () => {
  expect(formatProgress("Tokenizing", 0, 4e6, 0)).toBe(`Tokenizing ${"░".repeat(24)} 0 % · 0.0 kB/s`);
  expect(formatProgress("Tokenizing", 1e6, 4e6, 30)).toBe(
    `Tokenizing ${"█".repeat(6)}${"░".repeat(18)} 25 % · 33.3 kB/s · 1 min 30 s left`,
  );
  expect(formatProgress("Tokenizing", 4e6, 4e6, 2)).toBe(`Tokenizing ${"█".repeat(24)} 100 % · 2.0 MB/s · 0 s left`);
  expect(formatProgress("Tokenizing", 0, 0, 1)).toContain("100 %"); // empty files
});

it.each([
  [0.4, "0 s"],
  [59.6, "1 min 0 s"],
  [3600, "1 h 0 min"],
  [7519, "2 h 5 min"],
])("%d seconds are %s", (seconds, text) => expect(formatSeconds(seconds)).toBe(text));
