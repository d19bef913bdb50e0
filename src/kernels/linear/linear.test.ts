import { describe, expect, it } from "vitest";
import { expectAgreement, type KernelCase, rowCounts, runCase, wasm } from "../../../test/kernel-agreement.ts";

describe.each(rowCounts)("linear over %i rows", (tokens) => {
  it.each([
    ["f32", 64, 24],
    ["f32", 37, 5],
    ["bf16", 64, 24],
    ["bf16", 39, 7],
    ["q8", 64, 24],
    ["q8", 92, 13],
    ["q8", 576, 40],
    ["q4", 64, 24],
    ["q4", 92, 13],
    ["q4", 576, 40],
  ] as const)("agrees with its oracle in %s from %i to %i", (dtype, inputs, outputs) =>
    expectAgreement({
      tokens,
      record: ({ r, input, weight }) => r.linear(input(inputs), weight(outputs, inputs, dtype)),
    }),
  );
});

it.each(["f32", "bf16", "q8", "q4"] as const)("gives a row the same bits alone and in a batch in %s", async (dtype) => {
  const record: KernelCase["record"] = ({ r, input, weight }) => r.linear(input(92), weight(13, 92, dtype));
  const many = await runCase(wasm, { tokens: 7, record });
  const last = await runCase(wasm, {
    tokens: 7,
    record: (make) => {
      const x = make.input(92);
      const w = make.weight(13, 92, dtype);
      return make.r.linear(make.r.pick(x, make.table(make.r.indices("rows"), [6])), w);
    },
    outputs: 1,
  });
  expect([...last]).toEqual([...many.subarray(6 * 13)]);
});
