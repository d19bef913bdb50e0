import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { expectClose, plainWasm, reference, wasm } from "../../test/support/kernel-agreement.ts";
import type { Backend } from "../backends/backend.ts";
import { createRandom } from "../random.ts";
import type { Dtype } from "../tensor/dtype.ts";
import { backward } from "./backward.ts";
import { planMemory } from "./memory-plan.ts";
import { overlaysOf, readsOf, type Tensor, writesOf } from "./operation.ts";
import { maxRows, type Program, tensorBytes, tensorsOf } from "./program.ts";
import { createRecorder, type Recorder } from "./recorder.ts";

const limits = { tokens: 6, outputs: 6, positions: 6 };
const [WIDTH, CLASSES] = [8, 5];
/** Two query heads share one of keys and values. */
const HEAD = 4;

type Weight = (name: string, rows?: number, dtype?: Dtype) => Tensor;
type Body = (r: Recorder, x: Tensor, weight: Weight, cut: () => void) => Tensor;
type Names = { readonly table?: string; readonly head?: string };
type Graph = {
  readonly program: Program;
  readonly inputs: readonly Tensor[];
  /** By the weight's name. */
  readonly gradients: ReadonlyMap<string, Tensor>;
};

/** Records `body` between an embedding and a loss, and its backward pass; `cut` is where it may be recomputed from. */
function record(body: Body, recomputes = false, { table = "table", head = "head" }: Names = {}): Graph {
  const r = createRecorder(limits, "training");
  const weights = new Map<string, Tensor>();
  const weight: Weight = (name, rows = WIDTH, dtype = "f32") => {
    const tensor = weights.get(name) ?? r.weight(name, rows, WIDTH, dtype);
    weights.set(name, tensor);
    return tensor;
  };
  const cuts: number[] = [];
  const [tokens, targets, scale] = [r.tokens("tokens"), r.tokens("targets"), r.input("scale", 1, 1)];
  const x = body(r, r.embed(tokens, weight(table, CLASSES)), weight, () => void cuts.push(r.count()));
  const { program } = r.finish(r.crossEntropy(x, weight(head, CLASSES), targets));
  const { operations, gradients } = backward(program.operations, { scale, ...(recomputes ? { recompute: cuts } : {}) });
  return {
    program: { limits, operations },
    inputs: tensorsOf({ limits, operations }).filter(({ kind }) => kind === "weight" || kind === "input"),
    gradients: new Map([...gradients].map(([{ name }, gradient]) => [name, gradient])),
  };
}

/** Gradients by weight. Values depend on a tensor's name alone, up to a digit at its end. */
async function gradientsOf(
  backend: Backend,
  { program, inputs, gradients }: Graph,
): Promise<Map<string, Float32Array>> {
  const machine = await backend.open(program);
  for (const tensor of inputs) {
    const random = createRandom(Number.parseInt(tensor.name.replace(/\d$/, ""), 36));
    const length = maxRows(tensor, limits) * tensor.cols;
    const values =
      tensor.dtype === "i32"
        ? Int32Array.from({ length }, () => random.below(CLASSES))
        : Float32Array.from({ length }, () => random.normal());
    await machine.write(tensor, 0, new Uint8Array(values.buffer));
  }
  await machine.run({ tokens: limits.tokens, position: 0, outputs: 0, length: 4 });
  const results = new Map<string, Float32Array>();
  for (const [name, gradient] of gradients) {
    const { buffer, byteOffset } = await machine.read(gradient, 0, tensorBytes(gradient, limits));
    results.set(name, new Float32Array(buffer, byteOffset, maxRows(gradient, limits) * gradient.cols));
  }
  await machine.dispose();
  return results;
}

function rotary(r: Recorder): Tensor {
  const angles = Float32Array.from({ length: limits.positions * HEAD }, (_, i) => Math.cos(i));
  return r.constant("angles", angles, HEAD);
}

/** Blocks as a model has them; all apply the same weights. */
const blocks: Body = (r, x, weight, cut) => {
  const angles = rotary(r);
  for (let block = 0; block < 4; block++) {
    cut();
    const normed = r.rmsnorm(x, weight("gain", 1), 1e-5);
    const q = r.rope(r.linear(normed, weight("q")), angles);
    const keys = r.rope(r.linear(normed, weight("k", HEAD)), angles);
    x = r.add(x, r.attention(q, keys, r.linear(normed, weight("v", HEAD)), HEAD));
    x = r.add(x, r.linear(r.swiglu(r.linear(x, weight("gate")), r.linear(x, weight("up"))), weight("down")));
  }
  return x;
};

describe("a weight used twice", () => {
  const twice =
    (first: string, second: string): Body =>
    (r, x, weight) =>
      r.linear(r.swiglu(r.linear(x, weight(first)), x), weight(second));

  it("has one gradient: the sum of what two weights of the same values have", async () => {
    const apart = await gradientsOf(reference, record(twice("w1", "w2")));
    const shared = await gradientsOf(reference, record(twice("w", "w")));
    expect([...shared.keys()].toSorted()).toEqual(["head", "table", "w"]);
    const [first, second] = [apart.get("w1")!, apart.get("w2")!];
    expectClose(
      shared.get("w")!,
      first.map((value, i) => value + second[i]!),
      1e-6,
      "sum",
    );
    expect(shared.get("head")).toEqual(apart.get("head"));
  });

  it("may be embedding and head", async () => {
    const apart = await gradientsOf(
      reference,
      record((_, x) => x, false, { table: "t1", head: "t2" }),
    );
    const tied = await gradientsOf(
      reference,
      record((_, x) => x, false, { table: "t", head: "t" }),
    );
    const [table, head] = [apart.get("t1")!, apart.get("t2")!];
    expectClose(
      tied.get("t")!,
      table.map((value, i) => value + head[i]!),
      1e-6,
      "sum",
    );
  });
});

describe("recomputing", () => {
  it.each([
    ["reference", reference],
    ["relaxed", wasm],
    ["plain", plainWasm],
  ])("gives the same gradients to the bit on the %s backend", async (_, backend) => {
    const kept = await gradientsOf(backend, record(blocks));
    expect(await gradientsOf(backend, record(blocks, true))).toEqual(kept);
    expect(Math.max(...kept.get("k")!)).toBeGreaterThan(0);
  });

  it("needs less memory for activations", () => {
    const activations = (graph: Graph): number => planMemory(graph.program, 0).bytes.activations;
    expect(activations(record(blocks, true))).toBeLessThan(0.7 * activations(record(blocks)));
  });
});

describe("a sum with a product", () => {
  it("is one operation, of the same gradients", async () => {
    const fused = record((r, x, weight) => r.add(x, r.linear(x, weight("w"))));
    const apart = record((r, x, weight) => r.add(r.linear(x, weight("w")), x));
    const forward = ({ program }: Graph): string[] => program.operations.slice(0, 3).map(({ op }) => op);
    expect(forward(fused)).toEqual(["embed", "matmul", "crossEntropyBack"]);
    expect(forward(apart)).toEqual(["embed", "matmul", "add"]);
    const expected = await gradientsOf(reference, apart);
    for (const [name, values] of await gradientsOf(reference, fused)) {
      expectClose(values, expected.get(name)!, 1e-6, name);
    }
  });

  it("is two where the product is added to itself", async () => {
    const doubled = await gradientsOf(
      reference,
      record((r, x, weight) => {
        const y = r.linear(x, weight("w"));
        return r.add(y, y);
      }),
    );
    const twice = record((r, x, weight) => {
      const y = r.linear(x, weight("w"));
      return r.add(y, r.linear(x, weight("w")));
    });
    for (const [name, values] of await gradientsOf(reference, twice)) {
      expectClose(values, doubled.get(name)!, 1e-6, name);
    }
  });

  it("refuses to be taken apart later", () => {
    const reused: Body = (r, x, weight) => {
      const y = r.linear(x, weight("w"));
      return r.swiglu(r.add(x, y), y);
    };
    expect(() => record(reused)).toThrowErrorMatchingInlineSnapshot(`[Error: internal: matmul.1 is part of a sum]`);
  });
});

it("carries no gradient to what the loss does not depend on", () => {
  const { program, gradients } = record((r, x, weight) => {
    r.linear(r.relu(x), weight("unused"));
    return r.linear(x, weight("used"));
  });
  expect([...gradients.keys()].toSorted()).toEqual(["head", "table", "used"]);
  expect(program.operations.map(({ op }) => op)).not.toContain("reluBack");
});

it("refuses what it can't differentiate", () => {
  const quantized: Body = (r, x, weight) => r.linear(x, weight("w", WIDTH, "q8"));
  expect(() => record(quantized)).toThrowErrorMatchingInlineSnapshot(`[Error: internal: w can't be trained]`);
  expect(() => record((r, x) => r.pick(x, r.indices("rows")))).toThrowErrorMatchingInlineSnapshot(
    `[Error: internal: pick has no gradient]`,
  );
  const r = createRecorder(limits, "training");
  const { program } = r.finish(r.relu(r.input("x", WIDTH)));
  const scale = r.input("scale", 1, 1);
  expect(() => backward(program.operations, { scale })).toThrowErrorMatchingInlineSnapshot(
    `[Error: internal: the loss must be the last operation]`,
  );
});

/** Any graph: each choice makes an operation over earlier results, and may be a place to cut. */
const bodies = fc
  .array(fc.record({ op: fc.nat(7), first: fc.nat(), second: fc.nat(), isCut: fc.boolean() }), { maxLength: 12 })
  .map((choices): Body => (r, x, weight, cut) => {
    const made = [x];
    const angles = rotary(r);
    for (const { op, first, second, isCut } of choices) {
      if (isCut) cut();
      const [a, b] = [made[first % made.length]!, made[second % made.length]!];
      const one = weight(`w${second % 3}`);
      const makers = [
        () => r.relu(r.linear(a, one)),
        () => r.add(a, r.linear(b, one)),
        () => r.add(a, b),
        () => r.relu(a),
        () => r.swiglu(a, b),
        () => r.rmsnorm(a, weight("gain", 1), 1e-5),
        () => r.rope(a, angles),
        () => r.attention(a, r.linear(b, weight("k", HEAD)), r.linear(b, weight("v", HEAD)), HEAD),
      ];
      made.push(makers[op]!());
    }
    return made.at(-1)!;
  });

describe.each([false, true])("for any graph, recomputing: %s", (recomputes) => {
  it("no result lies over what is still read", () => {
    fc.assert(
      fc.property(bodies, (body) => expectNothingLost(record(body, recomputes).program)),
      { numRuns: 200, seed: 1 },
    );
  });

  it("shared places change no gradient", async () => {
    const property = fc.asyncProperty(bodies, async (body) => {
      const graph = record(body, recomputes);
      const expected = await gradientsOf(reference, graph); // every tensor has a place of its own
      const actual = await gradientsOf(plainWasm, graph);
      const largest = Math.max(1, ...[...expected.values()].flatMap((values) => [...values].map(Math.abs)));
      for (const [name, values] of expected) {
        expectClose(
          actual.get(name)!.map((value) => value / largest),
          values.map((value) => value / largest),
          1e-4,
          name,
        );
      }
    });
    await fc.assert(property, { numRuns: 25, seed: 1 });
  });
});

/** Walks the program and remembers whose values each place holds. */
function expectNothingLost(program: Program): void {
  const { address } = planMemory(program, 64);
  const meet = (a: Tensor, b: Tensor): boolean => {
    const [from, to] = [address.get(a)!, address.get(b)!];
    return from < to + tensorBytes(b, limits) && to < from + tensorBytes(a, limits);
  };
  const lost = new Set<Tensor>();
  for (const operation of program.operations) {
    const [reads, writes] = [readsOf(operation), writesOf(operation)];
    for (const read of reads) expect(lost.has(read), `${operation.op} reads ${read.name}, which is lost`).toBe(false);
    for (const written of writes) {
      for (const read of new Set(reads)) {
        const mayLieOver = written === operation.out && overlaysOf(operation).includes(read);
        const isExact =
          address.get(read) === address.get(written) && reads.filter((other) => other === read).length === 1;
        if (read === written || !meet(read, written) || (mayLieOver && isExact)) continue;
        expect.fail(`${operation.op} writes ${written.name} over ${read.name}, which it reads`);
      }
      for (const other of writes) {
        if (other !== written && meet(other, written)) expect.fail(`${written.name} and ${other.name} meet`);
      }
      for (const other of address.keys()) if (other !== written && meet(other, written)) lost.add(other);
      lost.delete(written);
    }
  }
}
