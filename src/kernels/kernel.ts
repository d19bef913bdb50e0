/**
 * How a kernel in AssemblyScript is declared: an exported function of a .simd.ts file. The build writes its call into the
 * command loop (scripts/build.mjs), the WebAssembly backend its command's words (backends/wasm/compile.ts).
 */
import type { Role } from "./operation.ts";

/** What a kernel is told of the replay: rows of its command, P, rows of a sequence; memory of the thread; where `take` counts. */
export type RuntimeNumber = "rows" | "position" | "length" | "scratch" | "taken";

/**
 * How threads divide the units of a command. A factor is `rows`, `sequences`, or one of the kernel's sizes; units are the product of all.
 * `share`: equal shares of whole runs. `take`: as threads come, a few units at a time. `itself`: the kernel divides.
 */
export type Division =
  | { readonly share: readonly string[]; readonly run?: number }
  | { readonly take: readonly string[]; readonly atOnce: "one" | "some" }
  | "itself";

/**
 * A kernel takes pointers to its operands (0 where one is missing), sizes (i32), settings (f32), numbers of the replay, and the
 * units `from`…`to` that are this thread's, in this order.
 */
export type Kernel<R = Readonly<Record<string, Role>>, S = Readonly<Record<string, number>>> = {
  /** The function's name, and the command's. */
  readonly name: string;
  /** Its file below kernels/, without `.simd.ts`. */
  readonly file: string;
  readonly operands: R;
  /** The rule for each size, by name; where it is missing, the command brings the number. */
  readonly sizes: Readonly<Record<string, SizeRule<R, S> | undefined>>;
  /** Further numbers, for the division alone. */
  readonly counts?: Readonly<Record<string, SizeRule<R, S>>>;
  readonly settings: readonly string[];
  readonly runtime: readonly RuntimeNumber[];
  readonly divide: Division;
  /** Memory that each thread needs for itself; where it is missing, the command says. */
  readonly scratchBytes?: number;
  /** The operand whose rows are the command's; default: the first. */
  readonly rowsOf?: string;
  readonly overlays?: readonly string[];
};

/** A number from the shapes and forms of a command's operands, and from its settings. */
export type SizeRule<R, S> = { rule(of: { readonly [K in keyof R]: Sized }, settings: S): number }["rule"];

export type Sized = {
  readonly cols: number;
  /** Rows at their largest. */
  readonly rows: number;
  /** How a weight lies: `forms`. */
  readonly form: number;
};

/** How a weight lies in memory: its dtype in blocks of 8 rows (tensor/pack.ts), or f32 row by row. */
export const forms = { f32: 0, bf16: 1, q8: 2, q4: 3, rows: 4 } as const;

/** Gives a kernel without an operation of its own its types. */
export function declareKernel<const R extends Readonly<Record<string, Role>>>(kernel: Kernel<R>): Kernel<R> {
  return kernel;
}
