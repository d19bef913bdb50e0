import { describe, expect, expectTypeOf, it } from "vitest";
import { attention } from "../kernels/attention/attention.ts";
import { linear } from "../kernels/linear/linear.ts";
import { readsOf, resultOf, tensorsOf, writesOf } from "../kernels/operation.ts";
import { operations } from "../kernels/operations.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { flopsOf } from "./program.ts";
import {
  cache,
  constant,
  createOperation,
  createRecorder,
  ids,
  input,
  placesCache,
  replaceTensors,
  weight,
} from "./recorder.ts";

const limits = { tokens: 5, outputs: 2, positions: 9 };

it("has a method for every operation", () => {
  const r = createRecorder(limits);
  for (const name of Object.keys(operations)) expect(r).toHaveProperty(name, expect.any(Function));
});

it("records operands and settings by name, and gives the first result, shaped by its rule", () => {
  const r = createRecorder(limits);
  const [x, gain] = [input("x", 6), weight("gain", 1, 6)];
  const y = r.rmsnorm({ x, gain, eps: 0.5 });
  expect(y).toEqual({ name: "rmsnorm.0", kind: "activation", dtype: "f32", rows: "tokens", cols: 6 });
  expect(r.operations).toEqual([{ op: operations.rmsnorm, operands: { y, x, gain }, settings: { eps: 0.5 } }]);
  expect(r.operations[0]!.operands["x"]).toBe(x);
  expect(r.operations[0]!.operands["y"]).toBe(y);
});

it("lets optional operands be missing", () => {
  const r = createRecorder(limits);
  const [x, w, plus] = [input("x", 6), weight("w", 4, 6), input("plus", 4)];
  r.linear({ x, weight: w });
  r.linear({ x, weight: w, plus });
  expect(r.operations.map(({ operands }) => operands["plus"])).toEqual([undefined, plus]);
  expect(r.operations.map(readsOf)).toEqual([
    [x, w],
    [x, w, plus],
  ]);
});

it("gives an operation's further results names of their own, and all of them through `record`", () => {
  const r = createRecorder(limits);
  const [q, keys, values] = [input("q", 8), input("keys", 4), input("values", 4)];
  const made = r.record(attention, { q, keys, values, headSize: 4 });
  expectTypeOf(made.lse).toEqualTypeOf<Tensor | undefined>();
  expect(made.y).toMatchObject({ name: "attention.0", rows: "tokens", cols: 8 });
  expect(made.lse).toMatchObject({ name: "attention.0 lse", rows: "tokens", cols: 2 });
  expect(writesOf(r.operations[0]!)).toEqual([made.y, made.lse]);
  expect(r.record(attention, { q, keys: cache("k", 9, 4), values: cache("v", 9, 4), headSize: 4 })).not.toHaveProperty(
    "lse",
  );
});

it("gives what an operation changes, where it makes nothing", () => {
  const r = createRecorder(limits);
  const keys = cache("keys", 9, 6);
  expect(r.store({ cache: keys, x: input("x", 6) })).toBe(keys);
  expect(resultOf(r.operations[0]!)).toBe(keys);
});

it("renames what is to stay readable, wherever it is made and read, and leaves the rest as it is", () => {
  const r = createRecorder(limits);
  const x = r.relu({ x: input("x", 6) });
  const z = r.relu({ x });
  const { program, first, second } = r.finish({ first: x, second: z });
  expect(first).toEqual({ name: "first", kind: "output", dtype: "f32", rows: "tokens", cols: 6 });
  expect(second.name).toBe("second");
  expect(program.limits).toBe(limits);
  expect(program.operations.map(({ operands }) => [operands["y"], operands["x"]])).toEqual([
    [first, input("x", 6)],
    [second, first],
  ]);
  expect(tensorsOf(program.operations)).not.toContain(x);
  expect(resultOf(r.operations[0]!)).toBe(x);
});

it("puts other tensors in the place of an operation's, by tensor and by operand", () => {
  const [x, w, other] = [input("x", 6), weight("w", 4, 6), input("other", 6)];
  const { operation, made } = createOperation(linear, { x, weight: w }, 7);
  expect(made.y.name).toBe("linear.7");
  expect(replaceTensors(operation, (tensor) => (tensor === x ? other : undefined)).operands).toEqual({
    y: made.y,
    x: other,
    weight: w,
    plus: undefined,
  });
  expect(replaceTensors(operation, (_, operand) => (operand === "y" ? other : undefined)).operands["y"]).toBe(other);
  expect(operation.operands["x"]).toBe(x);
});

it("makes tensors of every kind", () => {
  const f32 = { dtype: "f32" };
  expect(weight("w", 4, 6)).toEqual({ ...f32, name: "w", kind: "weight", rows: 4, cols: 6 });
  expect(weight("w", 4, 6, "q4").dtype).toBe("q4");
  const values = Float32Array.of(1, 2, 3, 4, 5, 6);
  expect(constant("c", values, 3)).toEqual({ ...f32, name: "c", kind: "constant", rows: 2, cols: 3, values });
  expect(cache("k", 9, 6)).toEqual({ ...f32, name: "k", kind: "cache", rows: 9, cols: 6 });
  expect(placesCache(9)).toEqual({ name: "places", kind: "cache", dtype: "i32", rows: 9, cols: 3 });
  expect(ids("i", "outputs")).toEqual({ name: "i", kind: "input", dtype: "i32", rows: "outputs", cols: 1 });
  expect(ids("i", 2, 3)).toMatchObject({ rows: 2, cols: 3 });
  expect(input("x", 6)).toEqual({ ...f32, name: "x", kind: "input", rows: "tokens", cols: 6 });
  expect(input("x", 6, 1).rows).toBe(1);
});

it("counts a program's floating-point operations", () => {
  const r = createRecorder(limits);
  const x = r.linear({ x: input("x", 6), weight: weight("w", 4, 6) });
  const { program } = r.finish({ y: r.pick({ x: r.relu({ x }), rows: ids("rows", "outputs") }) });
  expect(flopsOf(program, { tokens: 3, position: 0, outputs: 2 })).toBe(2 * 3 * 4 * 6 + 3 * 4);
});

describe("refuses operands that do not fit together", () => {
  const r = createRecorder(limits);
  const x = input("x", 6);
  it("a product", () => {
    expect(() => r.linear({ x, weight: weight("w", 4, 5) })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: linear: inner sizes must match, got x (tokens, 6) and w (4, 5). Is the checkpoint from another preset?]`,
    );
  });

  it("a weight without a fixed number of rows", () => {
    expect(() => r.linear({ x, weight: input("w", 6) })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: weight: a fixed number of rows was required, w has "tokens".]`,
    );
  });

  it("a loss", () => {
    const [w, targets] = [weight("w", 4, 5), ids("targets", "tokens")];
    expect(() => r.crossEntropy({ x, weight: w, targets })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: crossEntropy: inner sizes must match, got x (tokens, 6) and w (4, 5). Is the checkpoint from another preset?]`,
    );
  });

  it("a norm", () => {
    expect(() => r.rmsnorm({ x, gain: weight("gain", 1, 5), eps: 0 })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: rmsnorm: gain must be a row as wide as x or one of its heads, got x (tokens, 6) and gain (1, 5). Is the checkpoint from another preset?]`,
    );
  });

  it("sums and gates", () => {
    expect(() => r.add({ a: x, b: input("b", 5) })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: add: shapes must match, got x (tokens, 6) and b (tokens, 5). Is the checkpoint from another preset?]`,
    );
    expect(() => r.add({ a: x, b: input("b", 6, "outputs") })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: add: shapes must match, got x (tokens, 6) and b (outputs, 6). Is the checkpoint from another preset?]`,
    );
    expect(() => r.swiglu({ gate: x, up: input("up", 5) })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: swiglu: shapes must match, got x (tokens, 6) and up (tokens, 5). Is the checkpoint from another preset?]`,
    );
  });

  it("positions and attention", () => {
    const angles = constant("angles", new Float32Array(8), 4);
    expect(() => r.rope({ x, angles, isInverse: 0 })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: rope: heads must divide x, got x (tokens, 6) and angles (2, 4). Is the checkpoint from another preset?]`,
    );
    const [keys, values] = [input("keys", 4), input("values", 4)];
    expect(() => r.attention({ q: x, keys, values, headSize: 2 })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: attention: key/value heads must divide query heads, got x (tokens, 6) and keys (tokens, 4). Is the checkpoint from another preset?]`,
    );
  });

  it("a cache of another width", () => {
    expect(() => r.store({ cache: cache("keys", 9, 5), x })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: store: the cache must be as wide as x, got x (tokens, 6) and keys (9, 5). Is the checkpoint from another preset?]`,
    );
  });
});
