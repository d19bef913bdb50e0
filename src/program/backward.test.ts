import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { expectClose, plainWasm, reference, wasm } from "../../test/support/kernel-agreement.ts";
import type { Backend } from "../backends/backend.ts";
import { formOf, lowerProgram, tensorBytes } from "../backends/wasm/lower.ts";
import { tensorsOf } from "../kernels/operation.ts";
import { createRandom } from "../random.ts";
import type { Dtype } from "../tensor/dtype.ts";
import { maxRows, type Tensor } from "../tensor/tensor.ts";
import { backward } from "./backward.ts";
import { planMemory, type Step } from "./memory-plan.ts";
import type { Program } from "./program.ts";
import { constant, createRecorder, ids, input, type Recorder, weight as matrix } from "./recorder.ts";

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

type Options = Names & {
  readonly recomputes?: boolean;
  /** Names of weights that have no gradient. */
  readonly frozen?: readonly string[];
};

/** Records `body` between an embedding and a loss, and its backward pass; `cut` is where it may be recomputed from. */
function record(body: Body, { recomputes = false, frozen = [], table = "table", head = "head" }: Options = {}): Graph {
  const r = createRecorder(limits);
  const weights = new Map<string, Tensor>();
  const weight: Weight = (name, rows = WIDTH, dtype = "f32") => {
    const tensor = weights.get(name) ?? matrix(name, rows, WIDTH, dtype);
    weights.set(name, tensor);
    return tensor;
  };
  const cuts: number[] = [];
  const [tokens, targets, scale] = [ids("tokens", "tokens"), ids("targets", "tokens"), input("scale", 1, 1)];
  const x = body(
    r,
    r.embed({ tokens, table: weight(table, CLASSES) }),
    weight,
    () => void cuts.push(r.operations.length),
  );
  const { program } = r.finish({ losses: r.crossEntropy({ x, weight: weight(head, CLASSES), targets }) });
  const gradients = new Map<string, Tensor>();
  const operations = backward(program.operations, {
    scale,
    gradientOf(of) {
      if (frozen.includes(of.name)) return undefined;
      const gradient = gradients.get(of.name) ?? { ...of, name: `gradient of ${of.name}`, kind: "gradient" };
      gradients.set(of.name, gradient);
      return gradient;
    },
    ...(recomputes ? { recompute: cuts } : {}),
  });
  return {
    program: { limits, operations },
    inputs: tensorsOf(operations).filter(({ kind }) => kind === "weight" || kind === "input"),
    gradients,
  };
}

/** Gradients by weight. Values depend on a tensor's name alone, up to a digit at its end. */
async function gradientsOf(
  backend: Backend,
  { program, inputs, gradients }: Graph,
): Promise<Map<string, Float32Array>> {
  const machine = await backend.open();
  const prepared = await machine.prepare(program);
  for (const tensor of inputs) {
    const random = createRandom(Number.parseInt(tensor.name.replace(/\d$/, ""), 36));
    const rows = maxRows(tensor, limits);
    const length = rows * tensor.cols;
    const values =
      tensor.dtype === "i32"
        ? Int32Array.from({ length }, () => random.below(CLASSES))
        : Float32Array.from({ length }, () => random.normal());
    const bytes = new Uint8Array(values.buffer);
    if (tensor.kind === "weight") await machine.upload(tensor, 0, rows, "F32", bytes);
    else await machine.write(tensor, 0, bytes);
  }
  await prepared.run({ tokens: limits.tokens, position: 0, outputs: 0, length: 4 });
  const results = new Map<string, Float32Array>();
  for (const [name, gradient] of gradients) {
    const length = maxRows(gradient, limits) * gradient.cols;
    const { buffer, byteOffset } = await machine.read(gradient, 0, length * 4);
    results.set(name, new Float32Array(buffer, byteOffset, length));
  }
  await machine.dispose();
  return results;
}

function rotary(): Tensor {
  const angles = Float32Array.from({ length: limits.positions * HEAD }, (_, i) => Math.cos(i));
  return constant("angles", angles, HEAD);
}

const linear = (r: Recorder, x: Tensor, weight: Tensor): Tensor => r.linear({ x, weight });

/** Blocks as a model has them; all apply the same weights. */
const blocks: Body = (r, x, weight, cut) => {
  const angles = rotary();
  for (let block = 0; block < 4; block++) {
    cut();
    const normed = r.rmsnorm({ x, gain: weight("gain", 1), eps: 1e-5 });
    const q = r.rope({ x: linear(r, normed, weight("q")), angles, isInverse: 0 });
    const keys = r.rope({ x: linear(r, normed, weight("k", HEAD)), angles, isInverse: 0 });
    const values = linear(r, normed, weight("v", HEAD));
    x = r.add({ a: x, b: r.attention({ q, keys, values, headSize: HEAD }) });
    const gated = r.swiglu({ gate: linear(r, x, weight("gate")), up: linear(r, x, weight("up")) });
    x = r.add({ a: x, b: linear(r, gated, weight("down")) });
  }
  return x;
};

describe("a weight used twice", () => {
  const twice =
    (first: string, second: string): Body =>
    (r, x, weight) =>
      linear(r, r.swiglu({ gate: linear(r, x, weight(first)), up: x }), weight(second));

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
      record((_, x) => x, { table: "t1", head: "t2" }),
    );
    const tied = await gradientsOf(
      reference,
      record((_, x) => x, { table: "t", head: "t" }),
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
    expect(await gradientsOf(backend, record(blocks, { recomputes: true }))).toEqual(kept);
    expect(Math.max(...kept.get("k")!)).toBeGreaterThan(0);
  });

  it("needs less memory for activations", () => {
    const activations = (graph: Graph): number => planMemory(commandsOf(graph.program), bytesOf).bytes;
    expect(activations(record(blocks, { recomputes: true }))).toBeLessThan(0.7 * activations(record(blocks)));
  });
});

describe.each([
  ["reference", reference],
  ["relaxed", wasm],
  ["plain", plainWasm],
])("frozen weights on the %s backend", (_, backend) => {
  it.each([
    ["the embedding", ["table"]],
    ["the head", ["head"]],
    ["matrices and gains within", ["gain", "q", "v", "up"]],
    ["all but one", ["table", "head", "gain", "k", "v", "gate", "up", "down"]],
  ])("leave the others' gradients as they are, to the bit: %s", async (__, frozen) => {
    for (const recomputes of [false, true]) {
      const expected = await gradientsOf(backend, record(blocks, { recomputes }));
      for (const name of frozen) expect(expected.delete(name)).toBe(true);
      expect(await gradientsOf(backend, record(blocks, { recomputes, frozen }))).toEqual(expected);
    }
  });
});

it("records no operations for the gradients of frozen weights, nor for what lies below all that is trained", () => {
  const names = ({ program }: Graph): string[] => program.operations.map(({ op }) => op.name);
  const all = names(record(blocks));
  const matrices = names(record(blocks, { frozen: ["table", "gain"] }));
  const count = (list: readonly string[], name: string): number => list.filter((other) => other === name).length;
  for (const name of ["gainBack", "embedBack"]) expect(matrices).not.toContain(name);
  expect(count(matrices, "linearWeight")).toBe(count(all, "linearWeight"));
  // Down to the embedding's gradient nothing is left to do: by way of q, k, v and the norm before them.
  expect(count(all, "linearInput") - count(matrices, "linearInput")).toBe(3);
  expect(count(all, "rmsnormBack") - count(matrices, "rmsnormBack")).toBe(1);

  const none = names(record(blocks, { frozen: ["table", "head", "gain", "q", "k", "v", "gate", "up", "down"] }));
  expect(none).toEqual(all.slice(0, all.indexOf("crossEntropyBack") + 1));
});

it("carries no gradient to what the loss does not depend on", () => {
  const { program, gradients } = record((r, x, weight) => {
    linear(r, r.relu({ x }), weight("unused"));
    return linear(r, x, weight("used"));
  });
  expect([...gradients.keys()].toSorted()).toEqual(["head", "table", "used"]);
  expect(program.operations.map(({ op }) => op.name)).not.toContain("reluBack");
});

it("refuses what it can't differentiate", () => {
  const quantized: Body = (r, x, weight) => linear(r, x, weight("w", WIDTH, "q8"));
  expect(() => record(quantized)).toThrowErrorMatchingInlineSnapshot(`[Error: internal: w can't be trained]`);
  expect(() => record((r, x) => r.pick({ x, rows: ids("rows", "outputs") }))).toThrowErrorMatchingInlineSnapshot(
    `[Error: internal: pick has no gradient]`,
  );
  const r = createRecorder(limits);
  r.relu({ x: input("x", WIDTH) });
  const options = { scale: input("scale", 1, 1), gradientOf: () => undefined };
  expect(() => backward(r.operations, options)).toThrowErrorMatchingInlineSnapshot(
    `[Error: internal: the loss must be the last operation]`,
  );
});

/** Any graph: each choice makes an operation over earlier results, and may be a place to cut. */
const bodies = fc
  .array(fc.record({ op: fc.nat(7), first: fc.nat(), second: fc.nat(), isCut: fc.boolean() }), { maxLength: 12 })
  .map((choices): Body => (r, x, weight, cut) => {
    const made = [x];
    const angles = rotary();
    for (const { op, first, second, isCut } of choices) {
      if (isCut) cut();
      const [a, b] = [made[first % made.length]!, made[second % made.length]!];
      const one = weight(`w${second % 3}`);
      const makers = [
        () => r.relu({ x: linear(r, a, one) }),
        () => r.add({ a, b: linear(r, b, one) }),
        () => r.add({ a, b }),
        () => r.relu({ x: a }),
        () => r.swiglu({ gate: a, up: b }),
        () => r.rmsnorm({ x: a, gain: weight("gain", 1), eps: 1e-5 }),
        () => r.rope({ x: a, angles, isInverse: 0 }),
        () => {
          const [keys, values] = [linear(r, b, weight("k", HEAD)), linear(r, b, weight("v", HEAD))];
          return r.attention({ q: a, keys, values, headSize: HEAD });
        },
      ];
      made.push(makers[op]!());
    }
    return made.at(-1)!;
  });

describe.each([false, true])("for any graph, recomputing: %s", (recomputes) => {
  it("no result lies over what is still read", () => {
    fc.assert(
      fc.property(bodies, (body) => expectNothingLost(record(body, { recomputes }).program)),
      { numRuns: 200, seed: 1 },
    );
  });

  it("shared places change no gradient", async () => {
    const property = fc.asyncProperty(bodies, async (body) => {
      const graph = record(body, { recomputes });
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

/** The commands of a program whose weights lie as training has them. */
function commandsOf(program: Program): readonly (Step & { readonly name: string })[] {
  const weights = new Set(tensorsOf(program.operations).filter(({ kind }) => kind === "weight"));
  const { commands } = lowerProgram(program, (tensor) => formOf(tensor, weights));
  return commands.map(({ kernel, ...step }) => ({ ...step, name: kernel.name }));
}

function bytesOf(tensor: Tensor): number {
  return tensorBytes(tensor, limits);
}

/** Walks the program and remembers whose values each place holds. */
function expectNothingLost(program: Program): void {
  const commands = commandsOf(program);
  const { offset } = planMemory(commands, bytesOf);
  const meet = (a: Tensor, b: Tensor): boolean => {
    const [from, to] = [offset.get(a)!, offset.get(b)!];
    return from < to + bytesOf(b) && to < from + bytesOf(a);
  };
  const lost = new Set<Tensor>();
  for (const { name, overlays, ...all } of commands) {
    const [reads, writes] = [all.reads, all.writes].map((tensors) => tensors.filter((tensor) => offset.has(tensor)));
    for (const read of reads!) expect(lost.has(read), `${name} reads ${read.name}, which is lost`).toBe(false);
    for (const written of writes!) {
      for (const read of new Set(reads)) {
        const mayLieOver = written === writes![0] && overlays.includes(read);
        const isExact =
          offset.get(read) === offset.get(written) && reads!.filter((other) => other === read).length === 1;
        if (read === written || !meet(read, written) || (mayLieOver && isExact)) continue;
        expect.fail(`${name} writes ${written.name} over ${read.name}, which it reads`);
      }
      for (const other of writes!) {
        if (other !== written && meet(other, written)) expect.fail(`${written.name} and ${other.name} meet`);
      }
      for (const other of offset.keys()) if (other !== written && meet(other, written)) lost.add(other);
      lost.delete(written);
    }
  }
}
