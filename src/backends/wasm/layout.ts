/** The words that JavaScript and the command loop agree on; the build writes them for AssemblyScript (scripts/build.mjs). */
import { MATMUL_SCRATCH, matmulTiles, productForms } from "../../kernels/matmul/matmul.commands.ts";
import { optimizerSettings, SQUARES_CHUNK } from "../../kernels/adamw/adamw.ts";
import { forms } from "../../kernels/kernel.ts";

/** 32-bit words at byte offsets from address 0 of the linear memory. */
export const header = {
  /** Counts replays; followers sleep on it. */
  run: 0,
  arrived: 4,
  phase: 8,
  /** The caller writes the number of the replay that shall stop at its next barrier. */
  cancel: 12,
  /** Set by the loop when it did. */
  stopped: 16,
  quit: 20,
  threads: 24,
  scratch: 28,
  scratchBytes: 32,
  /** From here on in the order of a replay's numbers: its own number, T, P, N, rows of a sequence, and its commands. */
  number: 36,
  tokens: 40,
  position: 44,
  outputs: 48,
  length: 52,
  commands: 56,
  commandCount: 60,
} as const;

/** The first byte after the header, on a cache line of its own. */
export const HEADER_BYTES = 128;

/**
 * A command: [opcode, barrier before it?, rows, pointers, sizes, counts, settings], as its kernel is declared, and last how many units
 * threads have taken so far, 0 between replays.
 */
export const COMMAND_WORDS = 16;
export const commandWord = { opcode: 0, barrier: 1, rows: 2, operands: 3, taken: COMMAND_WORDS - 1 } as const;

/** A command's rows: a number from 0, or one of the replay's. */
export const rowsWord = { tokens: -1, outputs: -2 } as const;

/** What kernels in AssemblyScript know besides, by the prefix of their names there. */
export const sharedNumbers: Readonly<Record<string, Readonly<Record<string, number>>>> = {
  FORM: forms,
  PRODUCT: productForms,
  TILE: matmulTiles,
  MATMUL: { SCRATCH: MATMUL_SCRATCH },
  SETTING: optimizerSettings,
  SQUARES: { CHUNK: SQUARES_CHUNK },
};
