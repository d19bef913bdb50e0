import { expect, it } from "vitest";
import { type Operation, readsOf, resultOf, writesOf } from "../kernels/operation.ts";
import { packedBytes } from "../tensor/dtype.ts";
import { isLasting, maxRows, type Tensor } from "../tensor/tensor.ts";
import { alignUp, planMemory, type Step } from "./memory-plan.ts";
import { createRecorder, ids, input, weight } from "./recorder.ts";

const limits = { tokens: 5, outputs: 2, positions: 9 };

function bytesOf(tensor: Tensor): number {
  const rows = maxRows(tensor, limits);
  return tensor.dtype === "i32" ? rows * tensor.cols * 4 : packedBytes(tensor.dtype, rows, tensor.cols);
}

/** Steps as operations are without being lowered. */
function stepsOf(operations: readonly Operation[]): Step[] {
  return operations.map((operation) => ({
    reads: readsOf(operation),
    writes: writesOf(operation),
    overlays: (operation.op.overlays ?? []).flatMap((name) => operation.operands[name] ?? []),
  }));
}

function recordBlock(): Step[] {
  const r = createRecorder(limits);
  const gain = weight("gain", 1, 48);
  let x = r.embed({ tokens: ids("ids", "tokens"), table: weight("table", 20, 48, "q8") });
  for (let layer = 0; layer < 3; layer++) {
    const normed = r.rmsnorm({ x, gain, eps: 1e-5 });
    const up = r.linear({ x: normed, weight: weight(`up.${layer}`, 64, 48, "q4") });
    x = r.add({ a: x, b: r.linear({ x: r.relu({ x: up }), weight: weight(`down.${layer}`, 48, 64) }) });
  }
  return stepsOf(r.finish({ y: r.pick({ x, rows: ids("rows", "outputs") }) }).program.operations);
}

it("gives tensors that are alive together places that do not overlap", () => {
  const steps = recordBlock();
  const { offset } = planMemory(steps, bytesOf);
  const lastRead = new Map(steps.flatMap(({ reads }, index) => reads.map((tensor) => [tensor, index] as const)));
  steps.forEach(({ writes, overlays }, index) => {
    const [out] = writes;
    const start = offset.get(out!)!;
    const end = start + bytesOf(out!);
    for (const [other, at] of offset) {
      const isAlive = other.kind !== "activation" || (lastRead.get(other) ?? -1) >= index;
      const isMadeLater = steps.findIndex((step) => step.writes.includes(other)) > index;
      // An operand that is read here for the last time may give its place to the result.
      const mayGiveWay = overlays.includes(other) && lastRead.get(other) === index;
      if (other === out || !isAlive || isMadeLater || mayGiveWay) continue;
      expect(start >= at + bytesOf(other) || end <= at, `${out!.name} over ${other.name}`).toBe(true);
    }
  });
});

it("gives a result the place of an operand that dies with it, and never one that lives on", () => {
  const r = createRecorder(limits);
  const x = r.relu({ x: input("x", 8) });
  const sum = r.add({ a: x, b: r.relu({ x }) });
  const { program, y } = r.finish({ y: r.relu({ x: r.add({ a: x, b: sum }) }) });
  const { offset } = planMemory(stepsOf(program.operations), bytesOf);
  const [, dying, first, second] = program.operations.map((operation) => offset.get(resultOf(operation))!);
  expect(first).toBe(dying); // x lives on
  expect([offset.get(x), first]).toContain(second);
  expect(offset.get(y)).not.toBe(second);
});

it("gives no place to an operand's result where the operand is read in another role, too", () => {
  const r = createRecorder(limits);
  const x = r.relu({ x: input("x", 8) });
  const { program } = r.finish({ y: r.relu({ x: r.add({ a: x, b: x }) }) });
  const { offset } = planMemory(stepsOf(program.operations), bytesOf);
  expect(offset.get(resultOf(program.operations[1]!))).not.toBe(offset.get(x));
});

it("keeps the place of a result that nobody reads while it is made", () => {
  const unread = (name: string): Tensor => ({ name, kind: "activation", dtype: "f32", rows: 1, cols: 4 });
  const [a, b, c] = [unread("a"), unread("b"), unread("c")];
  const { offset } = planMemory(
    [
      { reads: [], writes: [a, b], overlays: [] },
      { reads: [a], writes: [c], overlays: [] },
    ],
    () => 16,
  );
  expect([offset.get(a), offset.get(b), offset.get(c)]).toEqual([0, 64, 64]);
});

it("lets activations share places", () => {
  const steps = recordBlock();
  const apart = steps.reduce((sum, { writes }) => sum + bytesOf(writes[0]!), 0);
  expect(planMemory(steps, bytesOf).bytes).toBeLessThan(apart / 2);
});

it("places inputs, outputs and activations and nothing that lasts, within the bytes that it counts", () => {
  const steps = recordBlock();
  const { offset, bytes } = planMemory(steps, bytesOf);
  const all = new Set(steps.flatMap(({ reads, writes }) => [...reads, ...writes]));
  expect(new Set(offset.keys())).toEqual(new Set([...all].filter((tensor) => !isLasting(tensor))));
  expect(Math.min(...offset.values())).toBe(0);
  expect(Math.max(...Array.from(offset, ([tensor, at]) => at + alignUp(bytesOf(tensor))))).toBe(bytes);
  for (const at of offset.values()) expect(at % 64).toBe(0);
});
