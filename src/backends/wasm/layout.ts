/** The words that JavaScript and the command loop agree on; the build writes them for AssemblyScript (scripts/build.mjs). */
import { MATMUL_SCRATCH, matmulTiles, productForms } from "../../kernels/matmul/matmul.commands.ts";
import { optimizerSettings, SQUARES_CHUNK } from "../../kernels/adamw/adamw.ts";
import { forms } from "../../kernels/kernel.ts";

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
