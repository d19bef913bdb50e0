import { describe, expect, it } from "vitest";
import { expectAgreement, plainWasm, reference, runCase, wasm } from "../../../test/support/kernel-agreement.ts";
import type { Backend } from "../../backends/backend.ts";
import { ids } from "../../program/recorder.ts";
import { createRandom } from "../../random.ts";

function score(backend: Backend, logits: number[][], targets: number[]): Promise<Float32Array> {
  return runCase(backend, {
    tokens: logits.length,
    outputs: targets.length,
    record: ({ r, filled, table }) =>
      r.logProbability({
        logits: filled(logits[0]!.length, Float32Array.from(logits.flat())),
        targets: table(ids("targets", "outputs"), targets),
      }),
  });
}

describe.each([1, 5, 16, 33, 301])("log-probability among %i tokens", (vocabulary) => {
  it("agrees with its oracle", () =>
    expectAgreement({
      tokens: 5,
      record: ({ r, input, table }) =>
        r.logProbability({
          logits: input(vocabulary),
          targets: table(
            ids("targets", "outputs"),
            [0, 1, 2, 3, 4].map((n) => (n * 7) % vocabulary),
          ),
        }),
    }));
});

describe.each([reference, wasm, plainWasm])("on backend %#", (backend) => {
  it("marks the first of the likeliest", async () => {
    const row = [0, 2, 2, 1, -Infinity];
    const answers = await score(backend, [row, row, row], [1, 2, 3]);
    expect([answers[1], answers[3], answers[5]]).toEqual([1, 0, 0]);
    expect(answers[4]).toBeCloseTo(1 - Math.log(1 + 2 * Math.E ** 2 + Math.E), 5);
  });

  it("takes logits in the thousands, and lets NaN through", async () => {
    const answers = await score(
      backend,
      [
        [-4000, 4000],
        [NaN, 1],
      ],
      [0, 1],
    );
    expect(answers[0]).toBe(-8000);
    expect(answers[2]).toBeNaN();
  });
});

it("sums as torch: sixteen f32 sums, the large term's losing what is small beside it", async () => {
  const random = createRandom(5);
  const row = Array.from({ length: 49_152 }, (_, i) => Math.fround(i === 777 ? 17 : 3 * random.normal()));
  const lanes = Array.from({ length: 16 }, (_, lane) => {
    let sum = 0;
    for (let i = lane; i < row.length; i += 16) sum = Math.fround(sum + Math.fround(Math.exp(row[i]! - 17)));
    return sum;
  });
  const exact = -Math.log(row.reduce((sum, x) => sum + Math.exp(x - 17), 0));
  const expected = -Math.log(lanes.reduce((a, b) => a + b));
  const [logprob] = await score(wasm, [row], [777]);
  expect(logprob! - exact).toBeGreaterThan(1e-6);
  expect(Math.abs(logprob! - expected)).toBeLessThan(1e-6);
});
