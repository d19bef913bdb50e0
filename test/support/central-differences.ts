/** Gradients of the oracles against central differences, in f64. */
import { expect } from "vitest";
import { createRandom } from "../../src/random.ts";
import { expectClose, largestOf } from "./kernel-agreement.ts";

export type GradientCase<Name extends string> = {
  /** Numbers of each input that is differentiated. */
  readonly inputs: Readonly<Record<Name, number>>;
  /** Numbers of the result. */
  readonly outputs: number;
  readonly forward: (inputs: Readonly<Record<Name, Float64Array>>, out: Float64Array) => void;
  /** Writes into `gradients`, zeros at first, those of Σ dy·out. */
  readonly backward: (
    gradients: Readonly<Record<Name, Float64Array>>,
    dy: Float64Array,
    inputs: Readonly<Record<Name, Float64Array>>,
  ) => void;
};

/** Truncation costs about STEP², rounding 1e-16 / STEP: both are far below TOLERANCE, and a wrong formula far above. */
const STEP = 1e-5;
const TOLERANCE = 1e-7;

/** `backward` gives (loss(x + h) − loss(x − h)) / 2h for each x, where loss = Σ dy·out with random dy. */
export function expectGradients<Name extends string>(test: GradientCase<Name>): void {
  const random = createRandom(11);
  const normal = (count: number): Float64Array => Float64Array.from({ length: count }, () => random.normal());
  const names = Object.keys(test.inputs) as Name[];
  const each = (make: (count: number) => Float64Array): Record<Name, Float64Array> =>
    Object.fromEntries(names.map((name) => [name, make(test.inputs[name])])) as Record<Name, Float64Array>;
  const inputs = each(normal);
  const gradients = each((count) => new Float64Array(count));
  const dy = normal(test.outputs);
  test.backward(gradients, dy, inputs);

  const loss = (): number => {
    const out = new Float64Array(test.outputs);
    test.forward(inputs, out);
    return out.reduce((sum, value, i) => sum + value * dy[i]!, 0);
  };
  for (const name of names) {
    const input = inputs[name];
    const expected = input.map((value, i) => {
      input[i] = value + STEP;
      const above = loss();
      input[i] = value - STEP;
      const below = loss();
      input[i] = value;
      return (above - below) / (2 * STEP);
    });
    expect(largestOf(expected), "an expectation of zeros would pass too easily").toBeGreaterThan(0);
    expectClose(gradients[name], expected, TOLERANCE, `gradient of ${name}`);
  }
}
