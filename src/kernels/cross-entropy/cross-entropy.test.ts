import { describe, expect, it } from "vitest";
import { expectGradients } from "../../../test/support/central-differences.ts";
import { expectTrainingAgreement, runTraining, trainingRowCounts } from "../../../test/support/training-agreement.ts";
import { plainWasm, reference, wasm } from "../../../test/support/kernel-agreement.ts";
import { crossEntropyRows } from "./cross-entropy.reference.ts";
import type { Tensor } from "../../program/operation.ts";

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

/** Rows of logits at a time; 97 and 130 rows are several chunks with a rest. */
const CHUNK = 32;

describe.each(trainingRowCounts)("cross-entropy and its gradients of %i rows", (tokens) => {
  it.each([
    [7, 5],
    [20, 301],
    [92, 64],
  ])("agree with their oracles from %i to %i classes", (width, classes) =>
    expectTrainingAgreement({
      tokens,
      record({ input, ids, output, activation, gradient }) {
        const [x, weight, targets] = [
          input(width),
          input(width, classes),
          ids((row) => ((row * 7 + 4) % (classes + 1)) - 1),
        ];
        const scale = input(1, 1, [0.25]);
        const logits = (): Tensor => activation(classes, CHUNK);
        return [
          { op: "crossEntropy", out: output(1), logits: logits(), x, weight, targets },
          {
            op: "crossEntropyBack",
            out: output(1),
            logits: logits(),
            x,
            weight,
            targets,
            scale,
            dx: output(width),
            dWeight: gradient(classes, width),
          },
        ];
      },
    }),
  );
});

it.each([reference, wasm, plainWasm])("logits in the thousands give finite losses, on backend %#", async (backend) => {
  const results = await runTraining(backend, {
    tokens: 2,
    record: ({ input, ids, output, activation }) => [
      {
        op: "crossEntropy",
        out: output(1),
        logits: activation(3, 2),
        x: input(1, 2, [1000, -1000]),
        weight: input(1, 3, [1, 2, 4]),
        targets: ids(() => 2),
      },
    ],
  });
  expect([...results.values()][0]!.slice(0, 2)).toEqual(Float32Array.of(0, 3000));
});
