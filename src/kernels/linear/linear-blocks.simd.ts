// y = x · wᵀ with weights in blocks of 8 rows, whatever their dtype.
import { FORM_BF16, FORM_F32, FORM_Q8 } from "../generated/numbers.simd";
import { first, last, share, stepOf, take } from "../share.simd";
import { linearFloat } from "./linear-float.simd";
import { linearQ4 } from "./linear-q4.simd";
import { linearQ8 } from "./linear-q8.simd";

/** Fewer rows wait for memory, and equal shares are read best. */
const TAKING_ROWS: i32 = 4;

export function linearBlocks(
  y: usize, // (T, O)
  x: usize, // (T, K), quantized where w is
  w: usize, // blocks
  K: i32,
  O: i32,
  form: i32, // FORM_…
  rows: i32, // T
  scratch: usize,
  taken: usize,
): void {
  if (rows == 0) return;
  const blocks = (O + 7) >> 3;
  if (form == FORM_F32 || form == FORM_BF16 || rows < TAKING_ROWS) {
    share(blocks);
    ofBlocks(form, y, x, w, scratch, rows, K, O);
  } else {
    // in twos, so that two threads seldom write to one cache line
    const step = stepOf(blocks) << 1;
    while (take(taken, blocks, step)) ofBlocks(form, y, x, w, scratch, rows, K, O);
  }
}

/** Blocks `first` up to `last` of 8 outputs. */
function ofBlocks(form: i32, y: usize, x: usize, w: usize, scratch: usize, rows: i32, K: i32, O: i32): void {
  if (form == FORM_F32) linearFloat<f32>(y, x, w, scratch, rows, K, O, first, last);
  else if (form == FORM_BF16) linearFloat<u16>(y, x, w, scratch, rows, K, O, first, last);
  else if (form == FORM_Q8) linearQ8(y, x, w, scratch, rows, K, O, first, last);
  else linearQ4(y, x, w, scratch, rows, K, O, first, last);
}
