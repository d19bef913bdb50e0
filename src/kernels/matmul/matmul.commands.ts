/** The tiled product in f32 as a command: one of three forms, over all rows of a replay or a chunk of them. */
import type { Extent, Tensor } from "../../tensor/tensor.ts";
import { declareKernel, type Kernel } from "../kernel.ts";
import type { Lowering, Part } from "../lowering.ts";
import { fixedRows } from "../operation.ts";

/** C (M, N) of x·wᵀ, dy·w and dyᵀ·x, w (O, K). */
export const productForms = { forward: 0, input: 1, weight: 2 } as const;

/**
 * Micro-tile: 6 rows × 2 vectors leave 12 accumulators, 2 of B and 1 of A in the 15 registers that V8 hands out. Panels of
 * KC × MC of A and KC × NC of B stay in the second-level cache.
 */
export const matmulTiles = { MR: 6, NR: 8, KC: 256, MC: 96, NC: 1024 } as const;

/** Scratch of one thread: the two panels and a tile at the edge. */
export const MATMUL_SCRATCH: number =
  4 * (matmulTiles.KC * (matmulTiles.MC + matmulTiles.NC) + matmulTiles.MR * matmulTiles.NR);

/** More rows than any replay has. */
const ALL_ROWS = 0x7fffffff;

/** c = plus + a·b; rows `start` up to `start + chunk` of the replay's, or fewer. */
export const product: Kernel = declareKernel({
  name: "product",
  file: "matmul/product",
  operands: { c: "out", plus: "in?", a: "in", b: "in" },
  sizes: { K: ({ b }) => b.cols, O: undefined, form: undefined, start: undefined, chunk: undefined },
  settings: [],
  runtime: ["rows", "scratch"],
  divide: "itself",
  scratchBytes: MATMUL_SCRATCH,
  rowsOf: "a",
  overlays: ["plus"],
});

type Factors = {
  readonly c: Tensor | Part;
  readonly plus?: Tensor | undefined;
  readonly a: Tensor | Part;
  readonly b: Tensor | Part;
};
type Chunk = { readonly start: number; readonly chunk: number; readonly rows?: Extent };

/** Writes the command of a product. @param chunk of the replay's rows; default: all. */
export function multiply(
  lowering: Lowering,
  form: number,
  factors: Factors,
  { start, chunk, rows }: Chunk = { start: 0, chunk: ALL_ROWS },
): void {
  const O = form === productForms.forward ? fixedRows(tensorOf(factors.b)) : tensorOf(factors.a).cols;
  const sizes = { O, form, start, chunk };
  lowering.command(product, factors, { sizes, ...(rows && { rows }) });
}

function tensorOf(factor: Tensor | Part): Tensor {
  return "tensor" in factor ? factor.tensor : factor;
}
