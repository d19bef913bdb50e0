import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { expectOperationGradients, type OperationCase } from "../../test/support/operation-gradients.ts";
import { plainWasm, reference, wasm } from "../../test/support/kernel-agreement.ts";
import type { Backend } from "../backends/backend.ts";
import { encodeCommands } from "../backends/wasm/compile.ts";
import { COMMAND_WORDS, commandWord } from "../backends/wasm/layout.ts";
import { formOf, lowerProgram } from "../backends/wasm/lower.ts";
import {
  cache,
  constant,
  createRecorder,
  ids,
  input,
  replaceTensors,
  type Recorder,
  weight,
} from "../program/recorder.ts";
import { createRandom } from "../random.ts";
import { maxRows, type Tensor } from "../tensor/tensor.ts";
import { OPTIMIZER_SETTINGS } from "./adamw/adamw.ts";
import { kernels, lowerings } from "./kernels.ts";
import { type Declaration, kernelOf, type Operation, readsOf, tensorsOf, writesOf } from "./operation.ts";
import { operations } from "./operations.ts";

type Name = keyof typeof operations;
const declarations = Object.entries<Declaration>(operations);

describe.each(declarations)("the declaration of %s", (name, op) => {
  it("has the operation's name", () => expect(op.name).toBe(name));

  it("puts what is made or changed before what is read", () => {
    const isRead = Object.values(op.operands).map((role) => !role.includes("out"));
    expect(isRead).toEqual(isRead.toSorted((a, b) => Number(a) - Number(b)));
  });

  it("has one kernel, or several by a lowering", () => {
    expect(Object.keys(lowerings).includes(name)).toBe(kernelOf(op) === undefined);
  });

  it("says by operands' names where its result may be made", () => {
    expect(Object.keys(op.operands)).toEqual(expect.arrayContaining([...(op.overlays ?? [])]));
  });
});

describe.each(kernels.map((kernel) => [kernel.name, kernel] as const))("the kernel %s", (name, kernel) => {
  const { operands, sizes, counts = {}, settings, divide, rowsOf, overlays = [] } = kernel;

  it("has numbers that fit into a command, before the units that were taken", () => {
    const numbers = [operands, sizes, counts, settings].flatMap(Object.keys);
    expect(commandWord.operands + numbers.length).toBeLessThanOrEqual(commandWord.taken);
  });

  it("is a function of its file", () => {
    expect(readFileSync(`src/kernels/${kernel.file}.simd.ts`, "utf8")).toContain(`export function ${name}(`);
  });

  it("is divided by numbers that it has", () => {
    if (divide === "itself") return;
    const factors = "share" in divide ? divide.share : divide.take;
    expect(["rows", "sequences", ...Object.keys(sizes), ...Object.keys(counts)]).toEqual(
      expect.arrayContaining([...factors]),
    );
  });

  it("says by operands' names whose rows are the command's, and where its result may be made", () => {
    expect(Object.keys(operands)).toEqual(expect.arrayContaining([...(rowsOf ? [rowsOf] : []), ...overlays]));
  });
});

it("gives each kernel a name of its own, and so an opcode", () => {
  const names = kernels.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
});

const limits = { tokens: 4, outputs: 4, positions: 4 };
const [x6, y6, z6, w56] = [input("x", 6), input("y", 6), input("z", 6), weight("w", 5, 6)];
const [tokens, targets] = [ids("tokens", "tokens"), ids("targets", "tokens")];
const angles = constant(
  "angles",
  Float32Array.from({ length: 8 }, (_, i) => Math.cos(i)),
  2,
);
const [norm, settings] = [input("norm", 2, 1), input("settings", OPTIMIZER_SETTINGS, 1)];
const sum = (name: string, rows: number, cols: number): Tensor => ({ ...weight(name, rows, cols), kind: "gradient" });
const [gradient, mean, square] = [sum("gradient", 5, 6), sum("mean", 5, 6), sum("square", 5, 6)];

/** Each operation once, with all operands that it can have here. */
const samples: Readonly<Record<Name, (r: Recorder) => Tensor>> = {
  embed: (r) => r.embed({ tokens, table: w56 }),
  embedBack: (r) => r.embedBack({ dTable: gradient, tokens, dy: x6 }),
  rmsnorm: (r) => r.rmsnorm({ x: x6, gain: weight("gain", 1, 6), eps: 0.1 }),
  rmsnormBack: (r) => r.rmsnormBack({ dy: x6, x: y6, gain: weight("gain", 1, 6), plus: z6, eps: 0.1 }),
  gainBack: (r) => r.gainBack({ dGain: sum("dGain", 1, 6), dy: x6, x: y6, scale: input("scale", 1) }),
  linear: (r) => r.linear({ x: x6, weight: w56, plus: input("plus", 5) }),
  linearInput: (r) => r.linearInput({ dy: input("dy", 5), weight: w56, plus: x6 }),
  linearWeight: (r) => r.linearWeight({ dWeight: gradient, dy: input("dy", 5), x: x6 }),
  rope: (r) => r.rope({ x: x6, angles, isInverse: 1 }),
  store: (r) => r.store({ cache: cache("keys", 4, 6), x: x6 }),
  attention: (r) => r.attention({ q: x6, keys: input("keys", 2), values: input("values", 2), headSize: 2 }),
  attentionBack(r) {
    const [keys, values] = [input("keys", 2), input("values", 2)];
    return r.attentionBack({ dy: x6, y: y6, lse: input("lse", 3), q: z6, keys, values, headSize: 2 });
  },
  swiglu: (r) => r.swiglu({ gate: x6, up: y6 }),
  swigluBack: (r) => r.swigluBack({ dy: x6, gate: y6, up: z6 }),
  relu: (r) => r.relu({ x: x6 }),
  reluBack: (r) => r.reluBack({ dy: x6, x: y6 }),
  add: (r) => r.add({ a: x6, b: y6 }),
  pick: (r) => r.pick({ x: x6, rows: ids("rows", "outputs") }),
  logProbability: (r) => r.logProbability({ logits: x6, targets: ids("targets", "outputs") }),
  crossEntropy: (r) => r.crossEntropy({ x: x6, weight: w56, targets }),
  crossEntropyBack: (r) =>
    r.crossEntropyBack({ x: x6, weight: w56, targets, scale: input("scale", 1, 1), dWeight: gradient }),
  squares: (r) => r.squares({ sums: sum("sums", 1, 2), gradient, at: 1 }),
  clip: (r) => r.clip({ norm: sum("norm", 1, 2), squares: input("squares", 3, 1), settings }),
  adamw: (r) => r.adamw({ weight: w56, gradient, mean, square, norm, settings, decays: 1 }),
  muon: (r) => r.muon({ weight: w56, gradient, mean, norm, settings }),
  clear: (r) => r.clear({ gradient }),
};

/** What it makes can be read after a replay. */
function sampleOf(name: Name): Operation {
  const r = createRecorder(limits);
  samples[name](r);
  const made = (tensor: Tensor): Tensor | undefined =>
    tensor.kind === "activation" ? { ...tensor, kind: "output" } : undefined;
  return replaceTensors(r.operations[0]!, made);
}

/** All that an operation's tensors hold before and after it; numbers from 0.1 to 1.1, ids from 0 to 3. */
async function carriedOut(
  backend: Backend,
  operation: Operation,
): Promise<Map<Tensor, { readonly before: Float32Array; readonly after: Float32Array }>> {
  const random = createRandom(4);
  const machine = await backend.open();
  const prepared = await machine.prepare({ limits, operations: [operation] });
  const filled = new Map<Tensor, Float32Array>();
  for (const tensor of tensorsOf([operation])) {
    const rows = maxRows(tensor, limits);
    const values = Float32Array.from({ length: rows * tensor.cols }, () => random.next() + 0.1);
    const held = tensor.dtype === "i32" ? Int32Array.from(values, (_, row) => row) : values;
    const bytes = new Uint8Array(held.buffer);
    if (tensor.kind === "weight") await machine.upload(tensor, 0, rows, "F32", bytes.slice());
    else if (tensor.kind !== "constant") await machine.write(tensor, 0, bytes);
    filled.set(tensor, tensor.values ?? Float32Array.from(held));
  }
  await prepared.run({ tokens: 4, position: 0, outputs: 4 });
  const results = new Map<Tensor, { readonly before: Float32Array; readonly after: Float32Array }>();
  for (const [tensor, before] of filled) {
    const read = async (): Promise<Float32Array> => {
      const { buffer } = (await machine.read(tensor, 0, before.byteLength)).slice();
      return tensor.dtype === "i32" ? Float32Array.from(new Int32Array(buffer)) : new Float32Array(buffer);
    };
    results.set(tensor, { before, after: tensor.kind === "weight" ? await machine.download(tensor) : await read() });
  }
  await machine.dispose();
  return results;
}

describe.each(Object.keys(operations) as Name[])("%s as it is carried out", (name) => {
  const operation = sampleOf(name);

  it("makes the operands that it declares, and takes the settings", () => {
    const given = readsOf(operation).length + writesOf(operation).length;
    const both = Object.values(operation.op.operands).filter((role) => role.startsWith("inout")).length;
    const missing = Object.entries(operation.op.operands).filter(([operand]) => !operation.operands[operand]);
    expect(given - both + missing.length).toBe(Object.keys(operation.op.operands).length);
    for (const [, role] of missing) expect(role).toMatch(/\?$/);
    for (const number of Object.values(operation.settings)) expect(number).toEqual(expect.any(Number));
    expect(Object.keys(operation.settings)).toEqual([...operation.op.settings]);
  });

  it("has a number of floating-point operations", () => {
    const { op, operands, settings: given } = operation;
    const flops = op.flops(operands, 4, given, { tokens: 4, position: 0, outputs: 4, length: 4 });
    expect(flops).toBeGreaterThanOrEqual(0);
    expect(flops).toBeLessThan(1e5);
  });

  it.each([
    ["reference", reference],
    ["relaxed", wasm],
    ["plain", plainWasm],
  ])("changes only what it declares, and makes all of that, on the %s backend", async (_, backend) => {
    const all = await carriedOut(backend, operation);
    const [made, changed] = ["out", "inout"].map((wanted) =>
      Object.entries(operation.op.operands).flatMap(([operand, role]) =>
        role.replace("?", "") === wanted ? (operation.operands[operand] ?? []) : [],
      ),
    );
    for (const [tensor, { before, after }] of all) {
      const same = before.filter((value, i) => value === after[i]).length;
      expect([...after], tensor.name).not.toContain(NaN);
      if (made!.includes(tensor)) expect(same, `${tensor.name} is as it was in part`).toBe(0);
      else if (changed!.includes(tensor)) expect(same, `${tensor.name} is as it was`).toBeLessThan(before.length);
      else expect(after, `${tensor.name} was changed`).toEqual(before);
    }
  });

  it("becomes commands in words, each with a kernel's opcode", () => {
    const { commands } = lowerProgram({ limits, operations: [operation] }, (tensor) => formOf(tensor, new Set()));
    const words = encodeCommands(commands, { addressOf: () => 64, bytesOf: () => 64 });
    expect(words).toHaveLength(commands.length * COMMAND_WORDS);
    for (const [index, { kernel }] of commands.entries()) {
      expect(kernels[words[index * COMMAND_WORDS + commandWord.opcode]!]!.name).toBe(kernel.name);
      expect(words[index * COMMAND_WORDS + commandWord.taken]).toBe(0);
    }
  });
});

describe("gradients are slopes", () => {
  const embedded = { tokens: 4, ids: [1, 4, 1, 0] };
  const checks: Partial<Record<Name, readonly OperationCase[]>> = {
    embed: [{ ...embedded, record: samples.embed }],
    rmsnorm: [
      { tokens: 3, record: samples.rmsnorm },
      { tokens: 3, record: (r) => r.rmsnorm({ x: x6, gain: weight("gain", 1, 2), eps: 0.1 }) },
    ],
    linear: [
      { tokens: 3, record: samples.linear },
      { tokens: 3, record: (r) => r.linear({ x: x6, weight: w56 }) },
      { tokens: 3, record: (r) => r.linear({ x: x6, weight: weight("w", 6, 6), plus: x6 }) },
    ],
    rope: [
      { tokens: 4, record: samples.rope },
      { tokens: 4, length: 3, record: (r) => r.rope({ x: x6, angles, isInverse: 0 }) },
    ],
    attention: [
      { tokens: 4, record: samples.attention },
      { tokens: 7, length: 3, record: samples.attention },
      { tokens: 3, record: (r) => r.attention({ q: x6, keys: y6, values: y6, headSize: 3 }) },
    ],
    swiglu: [
      { tokens: 3, record: samples.swiglu },
      { tokens: 3, record: (r) => r.swiglu({ gate: x6, up: x6 }) },
    ],
    relu: [{ tokens: 5, record: samples.relu }],
    add: [
      { tokens: 3, record: samples.add },
      { tokens: 3, record: (r) => r.add({ a: x6, b: x6 }) },
    ],
  };

  it("of every operation that has one", () => {
    const differentiable = declarations.filter(([, op]) => "gradient" in op).map(([name]) => name);
    expect(Object.keys(checks).toSorted()).toEqual(differentiable.toSorted());
  });

  it.each(Object.entries(checks))("%s", (_, cases) => {
    for (const each of cases) expectOperationGradients(each);
  });
});
