import { expect, it } from "vitest";
import { wasm } from "../../../test/support/kernel-agreement.ts";
import { createRecorder, input, weight } from "../../program/recorder.ts";

it("refuses a program that a 32-bit memory cannot hold, before it takes any", async () => {
  const r = createRecorder({ tokens: 1, outputs: 1, positions: 1 });
  const y = r.linear({ x: input("x", 40_000), weight: weight("w", 40_000, 40_000) });
  const { program } = r.finish({ y });
  const machine = await wasm.open();
  const before = machine.memory;
  await expect(machine.prepare(program)).rejects.toThrowErrorMatchingInlineSnapshot(
    `[BackendError: wasm: the model needs 6.0 GiB, a 32-bit memory holds 4.0 GiB. Use a smaller dtype ("q8" or "q4") or contextLength.]`,
  );
  expect(machine.memory).toEqual(before);
  await machine.dispose();
});
