/** A program into commands for the loop in program.simd.ts, and the memory that they need. */
import { invariant } from "../../errors.ts";
import { type MemoryPlan, planMemory } from "../../program/memory-plan.ts";
import { type Operation, type Program, readsOf, type Tensor, tensorBytes } from "../../program/program.ts";
import { COMMAND_WORDS, dtypeCode, HEADER_BYTES, opcode } from "./layout.ts";

export type CompiledProgram = {
  readonly plan: MemoryPlan;
  /** Words of all commands, to be copied to `commandsAt`. */
  readonly commands: Int32Array;
  readonly commandsAt: number;
  readonly scratchAt: number;
  /** Of one thread. */
  readonly scratchBytes: number;
  /** Of the whole memory. */
  readonly totalBytes: number;
};

export function compileProgram(program: Program, threads: number): CompiledProgram {
  const commandsAt = HEADER_BYTES;
  const scratchAt = commandsAt + program.operations.length * COMMAND_WORDS * 4;
  // A row of attention scores, or a tile of 4 × 8 outputs.
  const scratchBytes = Math.ceil(Math.max(program.limits.positions * 4, 128) / 64) * 64;
  const plan = planMemory(program, scratchAt + threads * scratchBytes);
  const commands = new Int32Array(program.operations.length * COMMAND_WORDS);
  const barriers = placeBarriers(program, plan);
  program.operations.forEach((operation, index) => {
    const words = encode(operation, plan);
    invariant(words.length + 2 <= COMMAND_WORDS, `${operation.op} needs ${words.length} words`);
    commands.set([opcode[operation.op], barriers[index]! ? 1 : 0, ...words], index * COMMAND_WORDS);
  });
  return { plan, commands, commandsAt, scratchAt, scratchBytes, totalBytes: plan.end };
}

/** Words 2 and on: rows, out, a, b, then the operation's own. */
function encode(operation: Operation, plan: MemoryPlan): number[] {
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
      return [...start(out, operation.tokens, operation.table), out.cols, weightCode(operation.table)];
    case "rmsnorm":
      return [...start(out, operation.x, operation.gain), out.cols, floatBits(operation.eps)];
    case "quantize":
      return [...start(out, operation.x), out.cols];
    case "linear": {
      const { x, weight } = operation;
      return [...start(out, x, weight), weight.cols, out.cols, weightCode(weight)];
    }
    case "rope":
      return [...start(out, operation.x, operation.angles), out.cols, operation.angles.cols];
    case "store":
      return [...start(operation.x, operation.x), out.cols];
    case "attention": {
      const { q, keys, values, headSize } = operation;
      return [...start(out, q, keys), q.cols / headSize, at(values), keys.cols / headSize, headSize];
    }
    case "swiglu":
      return [...start(out, operation.gate, operation.up), out.cols];
    case "relu":
    case "tail":
      return [...start(out, operation.x), out.cols];
    case "add":
      return [...start(out, operation.x, operation.y), out.cols];
  }
}

function weightCode(weight: Tensor): number {
  const { dtype } = weight;
  invariant(dtype !== "i32" && dtype !== "a16", `${weight.name} is no weight`);
  return dtypeCode[dtype];
}

function floatBits(value: number): number {
  return new Int32Array(new Float32Array([value]).buffer)[0]!;
}

/**
 * A barrier stands before an operation that touches bytes which another operation since the last barrier has written,
 * or writes bytes which one has read: threads split different operations differently.
 */
function placeBarriers(program: Program, plan: MemoryPlan): boolean[] {
  type Range = { start: number; end: number };
  let read: Range[] = [];
  let written: Range[] = [];
  const range = (tensor: Tensor): Range => {
    const start = plan.address.get(tensor)!;
    return { start, end: start + tensorBytes(tensor, program.limits) };
  };
  const meets = (ranges: Range[], { start, end }: Range): boolean =>
    ranges.some((other) => start < other.end && other.start < end);

  return program.operations.map((operation) => {
    const reads = readsOf(operation).map(range);
    const writes = range(operation.out);
    const needsBarrier = reads.some((r) => meets(written, r)) || meets(written, writes) || meets(read, writes);
    if (needsBarrier) {
      read = [];
      written = [];
    }
    read.push(...reads);
    written.push(writes);
    return needsBarrier;
  });
}
