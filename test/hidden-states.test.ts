/** A second program over a loaded model's weights. */
import { fileURLToPath } from "node:url";
import { loadModel } from "mobilellm";
import { createTrainer } from "mobilellm/training";
import { expect, it } from "vitest";
import { expectClose } from "./support/kernel-agreement.ts";

const folder = fileURLToPath(new URL("fixtures/models/untied-head-80", import.meta.url));
const tokens = Array.from({ length: 37 }, (_, i) => (i * 17 + 5) % 61);

it.each(["f32", "q8", "q4"] as const)(
  "gives in %s what the head turns into logits, without other weights",
  async (dtype) => {
    const model = await loadModel(folder, { dtype, threads: 2 });
    const reference = await loadModel(folder, { dtype, device: "reference" });
    const weightBytes = model.memory.weights;
    const logits = await model.logits(tokens);
    const states = await model.hiddenStates(tokens);
    expect(states).toHaveLength(37 * model.config.dim);
    expectClose(states, await reference.hiddenStates(tokens), 2e-3, "states");
    expect(model.memory.weights).toBe(weightBytes);
    expect(await model.hiddenStates(tokens.slice(0, 5))).toEqual(states.slice(0, 5 * model.config.dim));
    expect(await model.logits(tokens)).toEqual(logits);
    for (const each of [model, reference]) await each.dispose();
  },
);

it("refuses a text that is empty or too long", async () => {
  const model = await loadModel(folder, { contextLength: 8 });
  await expect(model.hiddenStates([])).rejects.toThrowErrorMatchingInlineSnapshot(
    `[RangeError: hiddenStates: expected 1 to 8 tokens (the context), got 0.]`,
  );
  await expect(model.hiddenStates(tokens)).rejects.toThrow("expected 1 to 8 tokens");
  await model.dispose();
});

it("gives a trainer back all memory that a model over its weights took", async () => {
  const trainer = await createTrainer({ model: folder, threads: 1 });
  const before = trainer.memory;
  const live = await trainer.openModel();
  await live.hiddenStates(tokens);
  expect(trainer.memory.total).toBeGreaterThan(before.total);
  await live.dispose();
  expect(trainer.memory).toEqual(before);
  await trainer.dispose();
});

it("gives a model back all memory that a trainer of it took before it failed", async () => {
  const model = await loadModel(folder, { dtype: "f32", threads: 1 });
  const before = model.memory;
  await expect(createTrainer({ model, rows: 100_000, length: 64 })).rejects.toThrow("a 32-bit memory holds 4.0 GiB");
  // All but scratch: the weights lie row by row from now on, and kernels for that take more.
  const { weights, constants, cache, activations } = before;
  expect(model.memory).toMatchObject({ weights, constants, cache, activations, gradients: 0, moments: 0 });
  await model.dispose();
});
