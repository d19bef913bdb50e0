import { expect, it } from "vitest";
import { planMemory } from "./memory-plan.ts";
import { overlaysOf, readsOf } from "./operation.ts";
import { tensorBytes } from "./program.ts";
import { createRecorder } from "./recorder.ts";

const limits = { tokens: 5, outputs: 2, positions: 9 };

function recordBlock() {
  const r = createRecorder(limits);
  const gain = r.gain("gain", 48);
  let x = r.embed(r.tokens("ids"), r.weight("table", 20, 48, "q8"));
  for (let layer = 0; layer < 3; layer++) {
    const normed = r.rmsnorm(x, gain, 1e-5);
    const up = r.linear(normed, r.weight(`up.${layer}`, 64, 48, "q4"));
    x = r.add(x, r.linear(r.relu(up), r.weight(`down.${layer}`, 48, 64, "f32")));
  }
  return r.finish(r.pick(x, r.indices("rows"))).program;
}

it("gives tensors that are alive together places that do not overlap", () => {
  const program = recordBlock();
  const plan = planMemory(program, 128);
  const lastRead = new Map(program.operations.flatMap((o, i) => readsOf(o).map((tensor) => [tensor, i] as const)));
  program.operations.forEach((operation, index) => {
    const { out } = operation;
    const start = plan.address.get(out)!;
    const end = start + tensorBytes(out, limits);
    for (const [other, at] of plan.address) {
      const isAlive = other.kind !== "activation" || (lastRead.get(other) ?? -1) >= index;
      const isMadeLater = program.operations.findIndex((o) => o.out === other) > index;
      // An operand that is read here for the last time may give its place to the result.
      const mayGiveWay = overlaysOf(operation).includes(other) && lastRead.get(other) === index;
      if (other === out || !isAlive || isMadeLater || mayGiveWay) continue;
      expect(start >= at + tensorBytes(other, limits) || end <= at, `${out.name} over ${other.name}`).toBe(true);
    }
  });
});

it("gives a result the place of an operand that dies with it, and never one that lives on", () => {
  const r = createRecorder(limits);
  const x = r.relu(r.input("x", 8));
  const sum = r.add(x, r.relu(x));
  const { program, output } = r.finish(r.relu(r.add(x, sum)));
  const { address } = planMemory(program, 0);
  const [, dying, first, second] = program.operations.map(({ out }) => address.get(out)!);
  expect(first).toBe(dying); // x lives on
  expect([address.get(x), first]).toContain(second);
  expect(address.get(output)).not.toBe(second);
});

it("lets activations share places", () => {
  const program = recordBlock();
  const { bytes } = planMemory(program, 128);
  const apart = program.operations.reduce((sum, { out }) => sum + tensorBytes(out, limits), 0);
  expect(bytes.activations).toBeLessThan(apart / 2);
});

it("counts every byte in a class, and starts where it is told", () => {
  const program = recordBlock();
  const { address, bytes, end } = planMemory(program, 128);
  expect(Math.min(...address.values())).toBe(128);
  expect(end - 128).toBe(bytes.weights + bytes.constants + bytes.cache + bytes.activations);
});
