import { describe, expect, it } from "vitest";
import { expectClose, reference, wasm } from "../../test/support/kernel-agreement.ts";
import { fakeConfig } from "../../test/support/fake-trainer.ts";
import type { Backend } from "../backends/backend.ts";
import { TrainingError } from "../errors.ts";
import { randomParameters } from "./parameter-sources.ts";
import { createOwnTrainer, type ParameterSource, type TrainerCore, type TrainerOptions } from "./trainer.ts";

const config = { ...fakeConfig, layers: 2, vocabSize: 16 };
const row = [1, 5, 2, 9, 1, 5, 3, 9, 4];
const other = [7, 7, 0, 15, 2, 2];

function open(backend: Backend, options: TrainerOptions = {}, source?: ParameterSource): Promise<TrainerCore> {
  const schedule = { kind: "constant", peak: 0.02 } as const;
  return createOwnTrainer(backend, config, source ?? randomParameters(3), { schedule, ...options });
}

/** Weights and moments, by name. */
async function valuesOf(trainer: TrainerCore): Promise<Map<string, Float32Array>> {
  const values = new Map<string, Float32Array>();
  for (const name of trainer.parameterNames) {
    for (const what of ["weight", ...trainer.momentsOf(name)] as const) {
      values.set(`${what} ${name}`, await trainer.read(name, what));
    }
  }
  return values;
}

async function weightsOf(trainer: TrainerCore): Promise<Map<string, Float32Array>> {
  const weights = new Map<string, Float32Array>();
  for (const name of trainer.tensorNames) weights.set(name, await trainer.read(name, "weight"));
  return weights;
}

/** `backend`, which calls `before` with the number of each replay. */
function watched(backend: Backend, before: (run: number) => void): Backend {
  let runs = 0;
  return {
    ...backend,
    async open() {
      const machine = await backend.open();
      return {
        ...machine,
        async prepare(program) {
          const prepared = await machine.prepare(program);
          return {
            ...prepared,
            run(...args) {
              before(++runs);
              return prepared.run(...args);
            },
          };
        },
      };
    },
  };
}

describe.each([
  ["reference", reference],
  ["wasm", wasm],
])("on the %s backend", (_, backend) => {
  it.each([
    ["adamw", 0.3],
    ["muon", 1], // an average over more steps: slower at first
  ] as const)("learns a row by heart with %s", async (kind, limit) => {
    const trainer = await open(backend, { optimizer: { kind } });
    const losses: number[] = [];
    for (let step = 0; step < 40; step++) losses.push((await trainer.step([[row]])).loss);
    expect(losses[0]).toBeCloseTo(Math.log(16), 0); // as good as guessing
    expect(losses.at(-1)).toBeLessThan(limit);
    expect(trainer.steps).toBe(40);
  });

  it("evaluates in the room there is, and leaves the next step as it would have been", async () => {
    const [trainer, untouched] = [await open(backend, { rows: 1, length: 8 }), await open(backend)];
    const masked = { tokens: row, learn: new Uint8Array(row.length) };
    const [first, second] = [await trainer.evaluate([row]), await trainer.evaluate([other])];
    const both = await trainer.evaluate([row, masked, other]);
    expect(both.tokens).toBe(row.length - 1 + other.length - 1);
    expect(both.loss).toBeCloseTo(first.loss + second.loss, 4);
    expect(await trainer.evaluate([masked])).toEqual({ loss: 0, tokens: 0 });
    await trainer.gradients([other]);
    expect(await trainer.step([[row], [other]])).toEqual(await untouched.step([[row], [other]]));
    expect(await valuesOf(trainer)).toEqual(await valuesOf(untouched));
  });

  it("forgets the gradients of a step that was stopped between two micro-batches", async () => {
    const stop = new AbortController();
    const stopping = watched(backend, (run) => {
      if (run === 2) stop.abort();
    });
    const [trainer, untouched] = [await open(stopping), await open(backend)];
    const before = await valuesOf(trainer);
    await expect(trainer.step([[row], [other]], { signal: stop.signal })).rejects.toThrow("aborted");
    expect(trainer.steps).toBe(0);
    expect(await valuesOf(trainer)).toEqual(before);
    expect(await trainer.step([[other]])).toEqual(await untouched.step([[other]]));
    expect(await valuesOf(trainer)).toEqual(await valuesOf(untouched));
  });

  it.each([
    [NaN, "step 1: loss must be finite, got NaN. Nothing was changed"],
    [1e25, "step 1: gradient norm must be finite, got Infinity. Nothing was changed"],
  ])("stops before the weights change where one of them is %f", async (bad, message) => {
    // A loud head's gradient overflows where the loss of a quiet last norm does not.
    const source: ParameterSource = {
      steps: 0,
      async weight(name, count) {
        const values = await randomParameters(3).weight!(name, count);
        if (name === "model.norm.weight") return values.fill(1e-30);
        if (name === "lm_head.weight") values[3] = bad;
        return values;
      },
    };
    const untied = { ...config, isTied: false };
    const trainer = await createOwnTrainer(backend, untied, source, { optimizer: { clip: null } });
    const before = await valuesOf(trainer);
    const stopped = trainer.step([[row]]);
    await expect(stopped).rejects.toThrow(TrainingError);
    await expect(stopped).rejects.toThrow(message);
    expect(await valuesOf(trainer)).toEqual(before);
    expect(trainer.steps).toBe(0);
  });

  it("steps as accumulate, reduce and update do one after the other, to the bit", async () => {
    const [whole, apart] = [await open(backend), await open(backend)];
    const report = await whole.step([[row], [other]]);
    const losses = [await apart.accumulate([row], 0.5), await apart.accumulate([other], 0.5)];
    expect((losses[0]! + losses[1]!) / 2).toBeCloseTo(report.loss, 6);
    expect(await apart.reduce()).toBe(report.gradientNorm);
    await apart.update();
    expect(await valuesOf(apart)).toEqual(await valuesOf(whole));
    expect(apart.steps).toBe(1);
  });

  it("takes gradients from elsewhere: half of the rows here, half on another trainer", async () => {
    const [whole, here, there] = [await open(backend), await open(backend), await open(backend)];
    await whole.step([[row], [other]]);
    await here.accumulate([row], 0.5);
    await there.accumulate([other], 0.5);
    for (const name of here.parameterNames) {
      const [own, theirs] = [await here.readGradient(name), await there.readGradient(name)];
      await here.writeGradient(
        name,
        own.map((value, i) => value + theirs[i]!),
      );
    }
    await here.update();
    const expected = await valuesOf(whole);
    for (const [name, values] of await valuesOf(here)) {
      expect(
        expected.get(name)!.every((value, i) => Math.abs(value - values[i]!) < 1e-4),
        name,
      ).toBe(true);
    }
    await expect(here.writeGradient("model.norm.weight", new Float32Array(3))).rejects.toThrow(
      "writeGradient: 8 numbers were required (gradient of model.norm.weight), got 3.",
    );
    await expect(here.readGradient("nothing")).rejects.toThrow('a tensor of the model was required, got "nothing"');
  });

  it("trains some tensors and leaves the others as they are", async () => {
    const isOpen = (name: string): boolean => name.includes("layers.1.mlp") || name === "model.norm.weight";
    const [some, all] = [await open(backend, { trains: isOpen }), await open(backend)];
    const before = await weightsOf(some);
    const [gradients, expected] = [await some.gradients([row]), await all.gradients([row])];
    expect([...gradients.keys()]).toEqual([...expected.keys()].filter(isOpen));
    // A frozen matrix lies in blocks of rows, whose products don't add as they go: another rounding.
    for (const [name, values] of gradients) expectClose(values, expected.get(name)!, 1e-5, name);
    for (let step = 0; step < 3; step++) await some.step([[row, other]]);
    for (const [name, values] of await weightsOf(some)) {
      const isAsBefore = values.every((value, i) => value === before.get(name)![i]);
      expect(isAsBefore, name).toBe(!isOpen(name));
    }
    expect(some.parameterNames).toHaveLength(4);
    expect(some.memory.moments).toBeLessThan(all.memory.moments / 2);
    await expect(open(backend, { trains: () => false })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: createTrainer.trains: a tensor or more was required, got none.]`,
    );
  });

  it("does not update by gradients that are not finite", async () => {
    const trainer = await open(backend);
    await trainer.accumulate([row]);
    await trainer.writeGradient("model.norm.weight", new Float32Array(8).fill(NaN));
    const before = await valuesOf(trainer);
    await expect(trainer.update()).rejects.toThrow(TrainingError);
    expect(await valuesOf(trainer)).toEqual(before);
    expect(trainer.steps).toBe(0);
    await trainer.clearGradients();
    expect((await trainer.step([[row]])).loss).toBeGreaterThan(0);
  });

  it("refuses rows without anything to learn, and says what came", async () => {
    const trainer = await open(backend);
    const masked = { tokens: [1, 2], learn: [1, 0] };
    const nothing = "training rows: at least one target was required, got none. Is all masked?";
    await expect(trainer.step([[row], [masked]])).rejects.toThrow(nothing);
    await expect(trainer.gradients([[7]])).rejects.toThrow(nothing);
    await expect(trainer.step([])).rejects.toThrow("step: at least one micro-batch was required, got none.");
    await expect(trainer.step([[[1, 16]]])).rejects.toThrow("row 0: token ids below 16 were required, got 16 at 1.");
    await expect(trainer.evaluate([[1, 16]])).rejects.toThrow("row 0: token ids below 16");
    expect(trainer.steps).toBe(0);
  });
});

it("with Muon keeps one moment of the matrices in blocks, and two of all else", async () => {
  const trainer = await open(wasm, { optimizer: { kind: "muon" } });
  const withOne = trainer.parameterNames.filter((name) => trainer.momentsOf(name).length === 1);
  expect(withOne).toHaveLength(config.layers * 7);
  expect(withOne.every((name) => /^model\.layers\.\d\.(self_attn|mlp)\.\w+_proj\.weight$/.test(name))).toBe(true);
  expect(trainer.memory.moments).toBeLessThan((await open(wasm)).memory.moments);
});

it.each([
  [{ rows: 0 }, "createTrainer.rows: expected a whole number of 1 or more, got 0."],
  [{ length: 2.5 }, "createTrainer.length: expected a whole number of 1 or more, got 2.5."],
  [{ optimizer: { clip: -1 } }, "optimizer.clip: expected a number above 0, or null for none, got -1."],
  [{ schedule: { kind: "linear" } as const }, 'schedule.steps: "linear" ends somewhere, got no number of steps.'],
])("refuses %j", async (options, message) => {
  await expect(open(reference, options)).rejects.toThrow(message);
});
