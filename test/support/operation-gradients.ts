/** The gradient that an operation declares, carried out by the oracles in f64, against central differences. */
import { invariant } from "../../src/errors.ts";
import { carryOut } from "../../src/backends/reference.ts";
import { add } from "../../src/kernels/elementwise/elementwise.ts";
import { type GradientTape, type Operation, readsOf, resultOf, tensorsOf } from "../../src/kernels/operation.ts";
import { createOperation, createRecorder, type Recorder } from "../../src/program/recorder.ts";
import { maxRows, type Tensor } from "../../src/tensor/tensor.ts";
import { expectGradients } from "./central-differences.ts";

export type OperationCase = {
  readonly tokens: number;
  /** Rows of one sequence. */
  readonly length?: number;
  /** Records one operation. Its operands are differentiated, but for constants and whole numbers. */
  readonly record: (r: Recorder) => Tensor;
  /** Of operands of whole numbers. */
  readonly ids?: readonly number[];
};

type Values = Float64Array | Int32Array;

/** Twice: from nothing, and onto gradients that the operands have already. */
export function expectOperationGradients({ tokens, length = tokens, record, ids = [] }: OperationCase): void {
  const limits = { tokens, outputs: tokens, positions: length };
  const numbers = { tokens, position: 0, outputs: tokens, length };
  const r = createRecorder(limits);
  record(r);
  const [operation] = r.operations;
  invariant(operation && "gradient" in operation.op, "an operation with a gradient was expected");
  const result = resultOf(operation);
  const operands = new Set(readsOf(operation).filter(({ dtype, values }) => dtype !== "i32" && !values));
  const countOf = (tensor: Tensor): number => maxRows(tensor, limits) * tensor.cols;

  /** What tensors hold after the operations; what is not given starts as zeros. */
  function replay(operations: readonly Operation[], given: ReadonlyMap<Tensor, Values>): Map<Tensor, Values> {
    const values = new Map<Tensor, Values>();
    for (const tensor of tensorsOf(operations)) {
      const fresh = tensor.values ? Float64Array.from(tensor.values) : new Float64Array(countOf(tensor));
      values.set(tensor, tensor.dtype === "i32" ? Int32Array.from(ids) : (given.get(tensor)?.slice() ?? fresh));
    }
    for (const each of operations) carryOut(each, numbers, (tensor) => values.get(tensor)!);
    return values;
  }

  for (const isKnown of [false, true]) {
    const named = new Map([...operands].map((tensor) => [tensor.name, tensor]));
    const valuesOf = (inputs: Readonly<Record<string, Float64Array>>): Map<Tensor, Float64Array> =>
      new Map([...operands].map((tensor) => [tensor, inputs[tensor.name]!]));
    const resultCount = countOf(result);
    const counts = Object.fromEntries(Array.from(named, ([name, tensor]) => [name, countOf(tensor)]));
    const operandCount = Object.values(counts).reduce((sum, count) => sum + count, 0);
    expectGradients({
      inputs: counts,
      // Where gradients are known already, the loss depends on the operands in another way, too: directly.
      outputs: resultCount + (isKnown ? operandCount : 0),
      forward(inputs, out) {
        out.set(replay([operation], valuesOf(inputs)).get(result)!);
        let at = resultCount;
        for (const name of isKnown ? named.keys() : []) {
          out.set(inputs[name]!, at);
          at += counts[name]!;
        }
      },
      backward(gradients, slopes, inputs) {
        const dy: Tensor = { ...result, name: "dy" };
        const given = new Map<Tensor, Values>([...valuesOf(inputs), [dy, slopes.slice(0, resultCount)]]);
        const known = new Map<Tensor, Tensor>();
        let at = resultCount;
        for (const [name, tensor] of named) {
          const sum: Tensor = { ...tensor, name: `gradient of ${name}` };
          if (tensor.kind === "weight" || isKnown) known.set(tensor, sum);
          if (!isKnown) continue;
          given.set(sum, slopes.slice(at, (at += counts[name]!)));
        }
        const recorded: Operation[] = [operation];
        const tape: GradientTape = {
          record(op, of) {
            const created = createOperation(op, of, recorded.length);
            recorded.push(created.operation);
            return created.made;
          },
          gradientOf: (weight) => known.get(weight),
          add(x, gradient) {
            const before = known.get(x);
            known.set(x, before ? tape.record(add, { a: before, b: gradient }).y : gradient);
          },
          known: (x) => known.get(x),
          replace: (x, gradient) => void known.set(x, gradient),
        };
        operation.op.gradient!(operation.operands as Record<string, Tensor>, operation.settings, dy, tape);
        const values = replay(recorded, given);
        for (const [name, tensor] of named) {
          const sum = known.get(tensor)!;
          gradients[name]!.set(values.get(sum) ?? given.get(sum)!);
        }
      },
    });
  }
}
