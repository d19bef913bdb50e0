/** A program into commands for the loop in program.simd.ts, and the memory that they need. */
import { invariant } from "../../errors.ts";
import { newtonSchulz, stepScale } from "../../kernels/muon/muon.reference.ts";
import { type MemoryPlan, planMemory } from "../../program/memory-plan.ts";
import { type Operation, readsOf, type Tensor, writesOf } from "../../program/operation.ts";
import { maxRows, type Part, type Program, tensorBytes } from "../../program/program.ts";
import { COMMAND_WORDS, HEADER_BYTES, opcode, productForm, TRAINING_SCRATCH_BYTES, weightForm } from "./layout.ts";

export type CompiledProgram = {
  readonly plan: MemoryPlan;
  /** Words of all commands, to be copied to `commandsAt`. */
  readonly commands: Int32Array;
  readonly commandsAt: number;
  /** Where a replay starts and ends, in commands, by name of the part. */
  readonly parts: ReadonlyMap<string | undefined, Part>;
  readonly scratchAt: number;
  /** Of one thread. */
  readonly scratchBytes: number;
  /** Of the whole memory. */
  readonly totalBytes: number;
};

/** An operation is one command or several; between them, too, threads may have to wait for each other. */
type Command = { readonly words: number[]; readonly reads: Tensor[]; readonly writes: Tensor[] };

export function compileProgram(program: Program, threads: number): CompiledProgram {
  const counts = program.operations.map((operation) => commandCount(operation, program));
  const total = counts.reduce((sum, count) => sum + count, 0);
  const commandsAt = HEADER_BYTES;
  const scratchAt = commandsAt + total * COMMAND_WORDS * 4;
  const trains = program.operations.some(({ op }) => tiled.has(op));
  // Attention's scores of three heads and the runs of a text; a tile of 4 × 8 outputs and a group of 8 rows in 16 bits; what a linear operation packs.
  const panels = program.operations.map((operation) => panelBytes(operation, program));
  const rowScratch = Math.ceil(Math.max((program.limits.positions + 1) * 20, 640, ...panels) / 64) * 64;
  const scratchBytes = Math.max(rowScratch, trains ? TRAINING_SCRATCH_BYTES : 0);
  const plan = planMemory(program, scratchAt + threads * scratchBytes);

  const commands = program.operations.flatMap((operation) => encode(operation, plan, program));
  invariant(commands.length === total, "every operation has the number of commands that was planned");
  const barriers = placeBarriers(commands, program, plan);
  const words = new Int32Array(total * COMMAND_WORDS);
  commands.forEach((command, index) => {
    const [code, ...rest] = command.words;
    invariant(rest.length + 2 < COMMAND_WORDS, `a command of ${rest.length + 2} words`);
    words.set([code!, barriers[index]! ? 1 : 0, ...rest], index * COMMAND_WORDS);
  });
  const startOf = (operation: number): number => counts.slice(0, operation).reduce((sum, count) => sum + count, 0);
  const parts = new Map<string | undefined, Part>([[undefined, { start: 0, end: total }]]);
  for (const [name, { start, end }] of program.parts ?? []) {
    parts.set(name, { start: startOf(start), end: startOf(end) });
  }
  return { plan, commands: words, commandsAt, parts, scratchAt, scratchBytes, totalBytes: plan.end };
}

/** Operations that go by way of the panels of matmul.simd.ts. */
const tiled: ReadonlySet<Operation["op"]> = new Set([
  "matmul",
  "matmulInput",
  "matmulWeight",
  "selfAttention",
  "selfAttentionBack",
  "crossEntropy",
  "crossEntropyBack",
  "muon",
]);

/** linear-float.simd.ts packs the rows of x by sixes, behind four tiles. */
function panelBytes(operation: Operation, program: Program): number {
  if (operation.op !== "linear" || operation.x.dtype !== "f32") return 0;
  return 768 + Math.ceil(maxRows(operation.x, program.limits) / 6) * 6 * operation.x.cols * 4;
}

/** Chunks of rows whose logits are in memory at once. */
function chunksOf(logits: Tensor, program: Program): number {
  return Math.ceil(program.limits.tokens / maxRows(logits, program.limits));
}

function commandCount(operation: Operation, program: Program): number {
  if (operation.op === "crossEntropy") return 2 * chunksOf(operation.logits, program);
  if (operation.op === "crossEntropyBack") return 4 * chunksOf(operation.logits, program);
  if (operation.op === "muon") return 3 + 6 * newtonSchulz.rounds;
  return 1;
}

function encode(operation: Operation, plan: MemoryPlan, program: Program): Command[] {
  if (operation.op === "crossEntropy" || operation.op === "crossEntropyBack") {
    return encodeCrossEntropy(operation, plan, program);
  }
  if (operation.op === "muon") return encodeMuon(operation, plan);
  const isProduct = operation.op === "matmulInput" || operation.op === "matmulWeight";
  const words = [opcode[isProduct ? "matmul" : operation.op], ...encodeOne(operation, plan)];
  return [{ words, reads: readsOf(operation), writes: writesOf(operation) }];
}

/** Chunk by chunk: logits; losses and the logits' gradients in their place; and what these give to x and the weight. */
function encodeCrossEntropy(
  operation: Extract<Operation, { op: "crossEntropy" | "crossEntropyBack" }>,
  plan: MemoryPlan,
  program: Program,
): Command[] {
  const { out, logits, x, weight, targets } = operation;
  const at = (tensor: Tensor): number => plan.address.get(tensor)!;
  const chunk = maxRows(logits, program.limits);
  const [C, V] = [x.cols, logits.cols];
  const commands: Command[] = [];
  for (let row = 0; row < program.limits.tokens; row += chunk) {
    const product = (form: number, c: number, plus: number, a: number, b: number): number[] => [
      opcode.matmul,
      0,
      c,
      plus,
      a,
      b,
      C,
      V,
      form,
      row,
      chunk,
    ];
    const [xAt, targetsAt, outAt] = [at(x) + row * C * 4, at(targets) + row * 4, at(out) + row * 4];
    commands.push({
      words: product(productForm.forward, at(logits), 0, xAt, at(weight)),
      reads: [x, weight],
      writes: [logits],
    });
    const isBack = operation.op === "crossEntropyBack";
    const scaleAt = isBack ? at(operation.scale) : 0;
    commands.push({
      words: [opcode.crossEntropyRows, 0, outAt, at(logits), targetsAt, scaleAt, V, row, chunk],
      reads: [targets, ...(isBack ? [operation.scale] : [])],
      writes: [out, logits],
    });
    if (!isBack) continue;
    const { dx, dWeight } = operation;
    commands.push({
      words: product(productForm.input, at(dx) + row * C * 4, 0, at(logits), at(weight)),
      reads: [logits, weight],
      writes: [dx],
    });
    commands.push({
      words: product(productForm.weight, at(dWeight), at(dWeight), at(logits), xAt),
      reads: [logits, x],
      writes: [dWeight],
    });
  }
  return commands;
}

/** Momentum, rounds of Newton and Schulz between two buffers, and the step. */
function encodeMuon(operation: Extract<Operation, { op: "muon" }>, plan: MemoryPlan): Command[] {
  const { out, gradient, mean, norm, settings, update, squares, next, gram, polynomial } = operation;
  const { a, b, c, rounds, eps } = newtonSchulz;
  const at = (tensor: Tensor): number => plan.address.get(tensor)!;
  const [count, cols] = [fixedCount(out), out.cols];
  const rows = count / cols;
  const isWide = rows <= cols;
  const scaled = (to: Tensor, from: Tensor, factor: number): Command => ({
    words: [opcode.scale, 0, at(to), at(from), 0, fixedCount(to), floatBits(factor)],
    reads: [from],
    writes: [to],
  });
  /** to (plus +)= a product whose operands have `outer` rows and whose sides are K and O, in the words of `product`. */
  const product = (
    form: number,
    to: Tensor,
    plus: Tensor | undefined,
    x: Tensor,
    y: Tensor,
    sides: number[],
  ): Command => {
    const [K, O, outer] = sides as [number, number, number];
    return {
      words: [opcode.fixedMatmul, 0, at(to), plus ? at(plus) : 0, at(x), at(y), K, O, form, 0, outer],
      reads: [x, y, ...(plus ? [plus] : [])],
      writes: [to],
    };
  };
  const { forward, input, weight } = productForm;
  const m = gram.cols;
  const commands: Command[] = [
    {
      words: [opcode.momentum, 0, at(update), at(gradient), at(mean), count, at(squares), at(settings), at(norm)],
      reads: [gradient, mean, settings, norm],
      writes: [update, gradient, mean, squares],
    },
    {
      words: [opcode.normalize, 0, at(update), at(squares), 0, count, floatBits(eps)],
      reads: [update, squares],
      writes: [update],
    },
  ];
  let [x, other] = [update, next];
  for (let round = 0; round < rounds; round++) {
    commands.push(
      isWide
        ? product(forward, gram, undefined, x, x, [cols, rows, rows]) // x·xᵀ
        : product(weight, gram, undefined, x, x, [cols, cols, rows]), // xᵀ·x
      scaled(polynomial, gram, b / c),
      product(forward, polynomial, polynomial, gram, gram, [m, m, m]),
      scaled(polynomial, polynomial, c),
      scaled(other, x, a),
      isWide
        ? product(input, other, other, polynomial, x, [cols, rows, rows])
        : product(forward, other, other, x, polynomial, [cols, cols, rows]),
    );
    [x, other] = [other, x];
  }
  commands.push({
    words: [opcode.muonStep, 0, at(out), at(x), at(settings), count, at(norm), floatBits(stepScale(rows, cols))],
    reads: [out, x, settings, norm],
    writes: [out],
  });
  return commands;
}

/** Words 2 and on: rows, out, a, b, then the operation's own. */
function encodeOne(
  operation: Exclude<Operation, { op: "crossEntropy" | "crossEntropyBack" | "muon" }>,
  plan: MemoryPlan,
): number[] {
  const at = (tensor: Tensor): number => plan.address.get(tensor)!;
  const { out } = operation;
  const start = (rowsOf: Tensor, a: Tensor, b?: Tensor): number[] => [
    rowsOf.rows === "outputs" ? 1 : 0,
    at(out),
    at(a),
    b ? at(b) : 0,
  ];
  switch (operation.op) {
    case "embed":
      return [...start(out, operation.tokens, operation.table), out.cols, formOf(operation.table)];
    case "rmsnorm":
      return [...start(out, operation.x, operation.gain), out.cols, floatBits(operation.eps)];
    case "quantize":
      return [...start(out, operation.x), out.cols];
    case "linear": {
      const { x, weight } = operation;
      invariant(weight.isBlocked, `${weight.name} is in blocks of rows`);
      return [...start(out, x, weight), weight.cols, out.cols, formOf(weight)];
    }
    case "rope":
      return [
        ...start(out, operation.x, operation.angles),
        out.cols,
        operation.angles.cols,
        operation.isInverse ? 1 : 0,
        operation.places ? at(operation.places) : 0,
      ];
    case "store":
      return [...start(operation.x, operation.x), out.cols];
    case "attention": {
      const { q, keys, values, headSize, places } = operation;
      const heads = [q.cols / headSize, at(values), keys.cols / headSize, headSize];
      return [...start(out, q, keys), ...heads, places ? at(places) : 0];
    }
    case "swiglu":
      return [...start(out, operation.gate, operation.up), out.cols];
    case "relu":
      return [...start(out, operation.x), out.cols];
    case "pick":
      return [...start(out, operation.x, operation.rows), out.cols];
    case "logProbability":
      return [...start(out, operation.logits, operation.targets), operation.logits.cols];
    case "add":
      return [...start(out, operation.x, operation.y), out.cols];
    case "matmul": {
      const { x, weight, plus } = operation;
      const plusAt = plus ? at(plus) : 0;
      return [0, at(out), plusAt, at(x), at(weight), x.cols, out.cols, productForm.forward, 0, ALL_ROWS];
    }
    case "matmulInput": {
      const { dy, weight, plus } = operation;
      const plusAt = plus ? at(plus) : 0;
      return [0, at(out), plusAt, at(dy), at(weight), out.cols, dy.cols, productForm.input, 0, ALL_ROWS];
    }
    case "matmulWeight": {
      const { dy, x } = operation;
      return [0, at(out), at(out), at(dy), at(x), x.cols, dy.cols, productForm.weight, 0, ALL_ROWS];
    }
    case "selfAttention": {
      const { lse, q, keys, values, headSize } = operation;
      return [...start(out, q, keys), at(values), at(lse), q.cols / headSize, keys.cols / headSize, headSize];
    }
    case "selfAttentionBack": {
      const { dKeys, dValues, dy, y, lse, q, keys, values, headSize } = operation;
      const gradients = [at(dKeys), at(dValues), at(dy), at(y), at(lse)];
      return [
        ...start(out, q, keys),
        at(values),
        ...gradients,
        (q.cols / headSize) | ((keys.cols / headSize) << 16),
        headSize,
      ];
    }
    case "rmsnormBack": {
      const { scale, dy, x, gain, plus, eps } = operation;
      return [...start(out, dy, x), at(gain), plus ? at(plus) : 0, at(scale), out.cols, floatBits(eps)];
    }
    case "gainBack":
      return [...start(operation.dy, operation.dy, operation.x).with(1, at(out)), at(operation.scale), out.cols];
    case "swigluBack": {
      const { dUp, dy, gate, up } = operation;
      return [...start(out, dy, gate), at(up), at(dUp), out.cols];
    }
    case "reluBack":
      return [...start(out, operation.dy, operation.x), out.cols];
    case "embedBack":
      return [...start(operation.dy, operation.tokens, operation.dy).with(1, at(out)), out.cols];
    case "squares": {
      const count = fixedCount(operation.gradient);
      return [0, at(out) + operation.at * 4, at(operation.gradient), 0, count];
    }
    case "clip":
      return [0, at(out), at(operation.squares), at(operation.settings), operation.squares.cols];
    case "adamw": {
      const { gradient, mean, square, norm, settings, decays } = operation;
      const moments = [at(mean), at(square), at(norm), fixedCount(out), decays ? 1 : 0];
      return [0, at(out), at(gradient), at(settings), ...moments];
    }
    case "clear":
      return [0, at(out), 0, 0, fixedCount(out)];
  }
}

/** More rows than any replay has. */
const ALL_ROWS = 0x7fffffff;

function fixedCount(tensor: Tensor): number {
  invariant(typeof tensor.rows === "number", `${tensor.name} has a fixed number of rows`);
  return tensor.rows * tensor.cols;
}

function formOf(weight: Tensor): number {
  const { dtype } = weight;
  invariant(dtype !== "i32" && dtype !== "a16", `${weight.name} is no weight`);
  return weight.isBlocked ? weightForm[dtype] : weightForm.rows;
}

function floatBits(value: number): number {
  return new Int32Array(new Float32Array([value]).buffer)[0]!;
}

/**
 * A barrier stands before a command that touches bytes which another since the last barrier has written, or writes bytes
 * which one has read: threads split different commands differently.
 */
function placeBarriers(commands: readonly Command[], program: Program, plan: MemoryPlan): boolean[] {
  type Range = { start: number; end: number };
  let read: Range[] = [];
  let written: Range[] = [];
  const range = (tensor: Tensor): Range => {
    const start = plan.address.get(tensor)!;
    return { start, end: start + tensorBytes(tensor, program.limits) };
  };
  const meets = (ranges: Range[], { start, end }: Range): boolean =>
    ranges.some((other) => start < other.end && other.start < end);

  return commands.map((command) => {
    const reads = command.reads.map(range);
    const writes = command.writes.map(range);
    const needsBarrier =
      reads.some((r) => meets(written, r)) || writes.some((w) => meets(written, w) || meets(read, w));
    if (needsBarrier) {
      read = [];
      written = [];
    }
    read.push(...reads);
    written.push(...writes);
    return needsBarrier;
  });
}
