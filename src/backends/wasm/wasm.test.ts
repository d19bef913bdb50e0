import { expect, it } from "vitest";
import { expectAgreement, rowCounts, wasm } from "../../../test/support/kernel-agreement.ts";
import { createRecorder } from "../../program/recorder.ts";

it.each(rowCounts)("picks of %i rows, one of them twice", (tokens) =>
  expectAgreement(
    {
      tokens,
      outputs: 3,
      record: ({ r, input, table }) =>
        r.pick(r.relu(input(10)), table(r.indices("rows"), [tokens - 1, tokens >> 1, tokens - 1])),
    },
    1e-9,
  ),
);

it("refuses a program that a 32-bit memory cannot hold, before it takes any", async () => {
  const r = createRecorder({ tokens: 1, outputs: 1, positions: 1 });
  const { program } = r.finish(r.linear(r.input("x", 40_000), r.weight("w", 40_000, 40_000, "f32")));
  await expect(wasm.open(program)).rejects.toThrowErrorMatchingInlineSnapshot(
    `[BackendError: wasm: the model needs 6.0 GiB, a 32-bit memory holds 4.0 GiB. Use a smaller dtype ("q8" or "q4") or contextLength.]`,
  );
});
