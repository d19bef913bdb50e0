import { describe, expect, it } from "vitest";
import { countParameters, presets } from "../model/config.ts";
import { describeModel, estimateEnergy, estimateWeightBytes } from "./describe.ts";
import { chooseKvHeads, suggestShapes, usualDepth } from "./suggest-shape.ts";

describe("describeModel", () => {
  it.each([
    ["125M", 23_040, 0.249],
    ["125M-LS", 46_080, 0.462],
    ["350M", 40_960, 0.691],
    ["350M-LS", 81_920, 1.32],
    ["600M", 61_440, 1.206],
    ["1B", 69_120, 2.011],
    ["1.5B", 69_120, 3.022],
  ] as const)("gives the paper's figures for %s", (name, cacheBytes, gigaflops) => {
    const { cacheBytesPerToken, flopsPerToken } = describeModel(presets[name]);
    expect(cacheBytesPerToken.own.f16).toBe(cacheBytes);
    expect(cacheBytesPerToken.own.f32).toBe(2 * cacheBytes);
    expect(flopsPerToken / 1e9).toBeCloseTo(gigaflops, 3);
  });

  it("halves the cache of a twice-shared model that reads the first keys and values", () => {
    expect(describeModel(presets["125M-LS"]).cacheBytesPerToken.first.f16).toBe(23_040);
  });

  it("counts energy by stored parameters, so sharing costs none in the paper's estimate", () => {
    expect(describeModel(presets["125M-LS"]).energy).toEqual(describeModel(presets["125M"]).energy);
  });

  it("keeps embedding in q8 and norms in f32 when blocks are q4", () => {
    const { embedding, attention, feedForward, norms } = countParameters(presets["125M"]);
    const expected = (embedding * 34) / 32 + ((attention + feedForward) * 20) / 32 + 4 * norms;
    expect(estimateWeightBytes(presets["125M"], "q4")).toBe(expected);
  });
});

describe("estimateEnergy", () => {
  it("agrees with the paper: a 350M model lasts 39.7 hours, a 7B one under two", () => {
    expect(estimateEnergy(350e6).joulesPerToken).toBeCloseTo(0.035, 10);
    expect(estimateEnergy(350e6).hoursAtTenTokensPerSecond).toBeCloseTo(39.7, 1);
    expect(estimateEnergy(7e9).hoursAtTenTokensPerSecond).toBeCloseTo(1.98, 2);
  });
});

describe("suggestShapes", () => {
  it("finds MobileLLM-125M's shape under 125M parameters", () => {
    const shapes = suggestShapes({ parameters: 125e6 });
    expect(shapes).toContainEqual(presets["125M"]);
    for (const shape of shapes) expect(countParameters(shape).total).toBeLessThanOrEqual(125e6);
  });

  it.each([
    [5e6, 32_000, "19 × 96"], // 3 × 128 is wider, and too shallow
    [5e6, 4096, "18 × 128"],
    [15e6, 32_000, "22 × 192"],
    [50e6, 32_000, "23 × 384"],
    [125e6, 32_000, "30 × 576"],
    [125e6, 128_256, "19 × 512"],
    [600e6, 32_000, "39 × 1152"],
    [1e9, 128_256, "46 × 1280"],
    [1.52e9, 32_000, "54 × 1600"],
  ])(
    "puts the deep and thin shape first, for %i parameters and a vocabulary of %i: %s",
    (parameters, vocabSize, best) => {
      const [first] = suggestShapes({ parameters, vocabSize });
      expect(`${first!.layers} × ${first!.dim}`).toBe(best);
    },
  );

  it("keeps five query heads at most to a key/value head", () => {
    for (const parameters of [2e6, 20e6, 125e6, 350e6, 1e9]) {
      for (const { heads, kvHeads } of suggestShapes({ parameters, limit: 30 })) {
        expect(heads % kvHeads).toBe(0);
        expect(heads / kvHeads).toBeLessThanOrEqual(5);
      }
    }
  });

  it("draws the usual depth through the paper's models", () => {
    for (const { dim, layers } of Object.values(presets))
      expect(Math.abs(usualDepth(dim) / layers - 1)).toBeLessThan(0.2);
  });

  it("takes the widest at a fixed depth", () => {
    expect(suggestShapes({ parameters: 125e6, layers: 30, limit: 1 })).toEqual([presets["125M"]]);
  });

  it("chooses the key/value heads of the paper's models", () => {
    expect([9, 15, 18, 20, 25].map(chooseKvHeads)).toEqual([3, 5, 6, 5, 5]);
  });

  it("refuses an option that it doesn't know", () => {
    expect(() => suggestShapes({ parameters: 125e6, layer: 30 } as never)).toThrowErrorMatchingInlineSnapshot(
      `[TypeError: suggestShapes: unknown option "layer". Did you mean "layers"?]`,
    );
    expect(() => suggestShapes({ parameters: Infinity })).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: suggestShapes.parameters: expected a number above 0, got Infinity.]`,
    );
    expect(() => suggestShapes({ parameters: 125e6, layers: 0 })).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: suggestShapes.layers: expected a whole number of 1 or more, got 0.]`,
    );
  });

  it("says what to change when nothing fits", () => {
    expect(() => suggestShapes({ parameters: 1000 })).toThrowErrorMatchingInlineSnapshot(
      `[RangeError: design.parameters: no shape fits 1000 at a vocabulary of 32000. Allow more, or choose a smaller vocabulary.]`,
    );
  });
});
