/** Commands as words for the loop in loop.simd.ts, and the barriers between them. */
import { invariant } from "../../errors.ts";
import { kernels } from "../../kernels/kernels.ts";
import type { Extent, Tensor } from "../../tensor/tensor.ts";
import { COMMAND_WORDS, commandWord, rowsWord } from "./layout.ts";
import type { Command } from "./lower.ts";

const opcodes = new Map(kernels.map(({ name }, opcode) => [name, opcode]));

export type Addresses = {
  readonly addressOf: (tensor: Tensor) => number;
  readonly bytesOf: (tensor: Tensor) => number;
};

/** The words of all commands. */
export function encodeCommands(commands: readonly Command[], { addressOf, bytesOf }: Addresses): Int32Array {
  const barriers = placeBarriers(commands, { addressOf, bytesOf });
  const words = new Int32Array(commands.length * COMMAND_WORDS);
  for (const [index, { kernel, operands, rows, sizes, settings }] of commands.entries()) {
    const pointers = Object.keys(kernel.operands).map((name) => {
      const part = operands[name];
      return part ? addressOf(part.tensor) + part.offset : 0;
    });
    const numbers = [...pointers, ...sizes, ...settings.map(floatBits)];
    invariant(commandWord.operands + numbers.length <= commandWord.taken, `${kernel.name} has too many words`);
    words.set([opcodes.get(kernel.name)!, barriers[index] ? 1 : 0, rowsOf(rows), ...numbers], index * COMMAND_WORDS);
  }
  return words;
}

function rowsOf(rows: Extent): number {
  return typeof rows === "number" ? rows : rowsWord[rows];
}

function floatBits(value: number): number {
  return new Int32Array(new Float32Array([value]).buffer)[0]!;
}

/**
 * A barrier stands before a command that touches bytes which another since the last barrier has written, or writes bytes
 * which one has read: threads split different commands differently.
 */
function placeBarriers(commands: readonly Command[], { addressOf, bytesOf }: Addresses): boolean[] {
  type Range = { start: number; end: number };
  let read: Range[] = [];
  let written: Range[] = [];
  const range = (tensor: Tensor): Range => {
    const start = addressOf(tensor);
    return { start, end: start + bytesOf(tensor) };
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
