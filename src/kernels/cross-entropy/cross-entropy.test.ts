import { describe, expect, it } from "vitest";
import { expectGradients } from "../../../test/support/central-differences.ts";
import {
  expectTrainingAgreement,
  operate,
  runTraining,
  type TrainingCase,
  trainingRowCounts,
} from "../../../test/support/training-agreement.ts";
import { plainWasm, reference, wasm } from "../../../test/support/kernel-agreement.ts";
import { carryOut } from "../../backends/reference.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import { crossEntropyChunk } from "./cross-entropy.commands.ts";
import { crossEntropyRows } from "./cross-entropy.reference.ts";
import { crossEntropy, crossEntropyBack } from "./cross-entropy.ts";

it("the logits' gradient is the slope of the summed losses, zero where the target is masked", () => {
  const [T, V, targets] = [4, 5, [2, -1, 0, 4]];
  expectGradients({
    inputs: { logits: T * V },
    outputs: 1,
    forward({ logits }, loss) {
      const losses = new Float64Array(T);
      crossEntropyRows(losses, logits, targets, undefined, T, V);
      loss[0] = losses.reduce((a, b) => a + b);
    },
    backward(gradients, dy, { logits }) {
      gradients.logits.set(logits);
      crossEntropyRows(new Float64Array(T), gradients.logits, targets, dy[0], T, V);
    },
  });
});

it("the gradients of x and of the weight are the slopes of the summed losses, times the scale", () => {
  const [T, C, V, targets] = [4, 3, 5, Int32Array.of(2, -1, 0, 4)];
  const row = (name: string, rows: number, cols: number): Tensor => ({ name, kind: "input", dtype: "f32", rows, cols });
  const [x, weight] = [row("x", T, C), row("weight", V, C)];
  const ids: Tensor = { ...row("targets", T, 1), dtype: "i32" };
  const numbers = { tokens: T, position: 0, outputs: T };
  expectGradients({
    inputs: { x: T * C, weight: V * C },
    outputs: 1,
    forward(inputs, out) {
      const [losses, nats] = [row("losses", T, 1), new Float64Array(T)];
      const values = new Map<Tensor, Float64Array | Int32Array>([
        [x, inputs.x],
        [weight, inputs.weight],
        [ids, targets],
        [losses, nats],
      ]);
      carryOut(operate(crossEntropy, { losses, x, weight, targets: ids }), numbers, (tensor) => values.get(tensor)!);
      out[0] = nats.reduce((a, b) => a + b);
    },
    backward(gradients, dy, inputs) {
      const [losses, scale] = [row("losses", T, 1), row("scale", 1, 1)];
      const [dx, dWeight] = [row("dx", T, C), row("dWeight", V, C)];
      const values = new Map<Tensor, Float64Array | Int32Array>([
        [x, inputs.x],
        [weight, inputs.weight],
        [ids, targets],
        [losses, new Float64Array(T)],
        [scale, dy],
        [dx, gradients.x],
        [dWeight, gradients.weight],
      ]);
      const operation = operate(crossEntropyBack, { losses, dx, dWeight, x, weight, targets: ids, scale });
      carryOut(operation, numbers, (tensor) => values.get(tensor)!);
    },
  });
});

function bothWays(tokens: number, width: number, classes: number): TrainingCase {
  return {
    tokens,
    record({ input, ids, output, gradient }) {
      const [x, weight] = [input(width), input(width, classes)];
      const targets = ids((row) => ((row * 7 + 4) % (classes + 1)) - 1);
      const scale = input(1, 1, [0.25]);
      const gradients = { dx: output(width), dWeight: gradient(classes, width) };
      return [
        operate(crossEntropy, { losses: output(1), x, weight, targets }),
        operate(crossEntropyBack, { losses: output(1), ...gradients, x, weight, targets, scale }),
        operate(crossEntropyBack, { losses: output(1), dx: output(width), x, weight, targets, scale }), // frozen
      ];
    },
  };
}

describe.each(trainingRowCounts)("cross-entropy and its gradients of %i rows", (tokens) => {
  it.each([
    [7, 5],
    [20, 301],
    [92, 64],
  ])("agree with their oracles from %i to %i classes", (width, classes) =>
    expectTrainingAgreement(bothWays(tokens, width, classes)),
  );
});

it.each([128, 129, 300])("%i rows of many classes agree with their oracles, in chunks and a rest", (tokens) => {
  const classes = 9000;
  expect(crossEntropyChunk(classes)).toBe(128);
  const tolerance = 1e-4; // beside an outlier's term an f32 sum loses what is small
  return expectTrainingAgreement({ ...bothWays(tokens, 3, classes), tolerance });
});

it.each([reference, wasm, plainWasm])("logits in the thousands give finite losses, on backend %#", async (backend) => {
  const results = await runTraining(backend, {
    tokens: 2,
    record: ({ input, ids, output }) => [
      operate(crossEntropy, {
        losses: output(1),
        x: input(1, "tokens", [1000, -1000]),
        weight: input(1, 3, [1, 2, 4]),
        targets: ids(() => 2),
      }),
    ],
  });
  expect([...results.values()][0]!.slice(0, 2)).toEqual(Float32Array.of(0, 3000));
});
