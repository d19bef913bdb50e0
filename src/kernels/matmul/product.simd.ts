// One of the three products of training as a command: threads share the longer side of C by whole micro-tiles.
import { PRODUCT_FORWARD, PRODUCT_INPUT, PRODUCT_WEIGHT, TILE_MR, TILE_NR } from "../generated/numbers.simd";
import { linearRow } from "../linear/linear-row.simd";
import { first, last, share } from "../share.simd";
import { matmul } from "./matmul.simd";

export function product(
  c: usize,
  plus: usize, // 0: nothing is added
  a: usize,
  b: usize,
  K: i32,
  O: i32,
  form: i32, // PRODUCT_…
  start: i32, // rows of the replay that the operands hold: from here on …
  chunk: i32, // … so many, fewer at the end
  rows: i32, // of the replay
  scratch: usize,
): void {
  rows = max(0, min(chunk, rows - start));
  if (rows == 0) return;
  if (form == PRODUCT_FORWARD && rows == 1) {
    share(O, 8);
    linearRow(c, plus, a, b, K, first, last);
    return;
  }
  // C (M, N) sums over `depth`
  const M = form == PRODUCT_WEIGHT ? O : rows;
  const N = form == PRODUCT_FORWARD ? O : K;
  const depth = form == PRODUCT_FORWARD ? K : form == PRODUCT_INPUT ? O : rows;
  const aRow = form == PRODUCT_FORWARD ? K : form == PRODUCT_INPUT ? O : 1;
  const aCol = form == PRODUCT_WEIGHT ? O : 1;
  const bRow = form == PRODUCT_FORWARD ? 1 : K;
  const bCol = form == PRODUCT_FORWARD ? K : 1;
  if (M >= N) {
    share(M, TILE_MR);
    const skip = (<usize>(first * N)) << 2;
    const aFirst = a + ((<usize>(first * aRow)) << 2);
    const plusFirst = plus ? plus + skip : 0;
    matmul(c + skip, plusFirst, N, aFirst, aRow, aCol, b, bRow, bCol, last - first, depth, 0, N, scratch);
  } else {
    share(N, TILE_NR);
    matmul(c, plus, N, a, aRow, aCol, b, bRow, bCol, M, depth, first, last, scratch);
  }
}
