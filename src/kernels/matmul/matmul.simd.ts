/*
 * C (M, N) = plus + A·B in f32, for the three products of training: y = x·wᵀ, dx = dy·w, dw += dyᵀ·x. Operands are
 * packed into panels (Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008), so that one
 * micro-kernel serves every layout. A thread owns columns of C: an element is one accumulator for each panel of K, summed
 * in one order, whatever the number of threads.
 */
import { TILE_KC as KC, TILE_MC as MC, TILE_MR as MR, TILE_NC as NC, TILE_NR as NR } from "../generated/numbers.simd";
import { madd } from "../math.simd";

/**
 * Element (i, k) of A is at a + (i·aRow + k·aCol)·4, where one of the two steps is 1; the same for (k, j) of B. C and
 * `plus` (0: none; may be C) have rows `cRow` apart.
 */
export function matmul(
  c: usize,
  plus: usize,
  cRow: i32,
  a: usize,
  aRow: i32,
  aCol: i32,
  b: usize,
  bRow: i32,
  bCol: i32,
  M: i32,
  K: i32,
  from: i32, // columns of C
  to: i32,
  scratch: usize,
): void {
  const panelA = scratch;
  const panelB = panelA + ((<usize>(KC * MC)) << 2);
  const edge = panelB + ((<usize>(KC * NC)) << 2);
  for (let j = from; j < to; j += NC) {
    const columns = min(NC, to - j);
    for (let k = 0; k < K; k += KC) {
      const depth = min(KC, K - k);
      const start = k == 0 ? plus : c;
      packB(panelB, b + ((<usize>(k * bRow + j * bCol)) << 2), bCol, bRow, columns, depth);
      for (let i = 0; i < M; i += MC) {
        const rows = min(MC, M - i);
        packA(panelA, a + ((<usize>(i * aRow + k * aCol)) << 2), aRow, aCol, rows, depth);
        for (let jj = 0; jj < columns; jj += NR) {
          const pb = panelB + ((<usize>(jj * depth)) << 2);
          for (let ii = 0; ii < rows; ii += MR) {
            const at = (<usize>((i + ii) * cRow + j + jj)) << 2;
            const pa = panelA + ((<usize>(ii * depth)) << 2);
            const height = min(MR, rows - ii),
              width = min(NR, columns - jj);
            if (height == MR && width == NR) tile(c + at, start ? start + at : 0, cRow, pa, pb, depth);
            else edgeTile(c + at, start ? start + at : 0, cRow, pa, pb, depth, height, width, edge);
          }
        }
      }
    }
  }
}

/** One micro-tile of C = plus + panel of A · panel of B. */
function tile(c: usize, plus: usize, cRow: i32, pa: usize, pb: usize, depth: i32): void {
  let c00 = f32x4.splat(0),
    c01 = c00,
    c10 = c00,
    c11 = c00,
    c20 = c00,
    c21 = c00,
    c30 = c00,
    c31 = c00,
    c40 = c00,
    c41 = c00,
    c50 = c00,
    c51 = c00;
  const step = (<usize>cRow) << 2;
  if (plus) {
    c00 = v128.load(plus);
    c01 = v128.load(plus, 16);
    plus += step;
    c10 = v128.load(plus);
    c11 = v128.load(plus, 16);
    plus += step;
    c20 = v128.load(plus);
    c21 = v128.load(plus, 16);
    plus += step;
    c30 = v128.load(plus);
    c31 = v128.load(plus, 16);
    plus += step;
    c40 = v128.load(plus);
    c41 = v128.load(plus, 16);
    plus += step;
    c50 = v128.load(plus);
    c51 = v128.load(plus, 16);
  }
  for (const end = pb + ((<usize>depth) << 5); pb < end; pb += 32) {
    const b0 = v128.load(pb),
      b1 = v128.load(pb, 16);
    let s = v128.load32_splat(pa);
    c00 = madd(s, b0, c00);
    c01 = madd(s, b1, c01);
    s = v128.load32_splat(pa, 4);
    c10 = madd(s, b0, c10);
    c11 = madd(s, b1, c11);
    s = v128.load32_splat(pa, 8);
    c20 = madd(s, b0, c20);
    c21 = madd(s, b1, c21);
    s = v128.load32_splat(pa, 12);
    c30 = madd(s, b0, c30);
    c31 = madd(s, b1, c31);
    s = v128.load32_splat(pa, 16);
    c40 = madd(s, b0, c40);
    c41 = madd(s, b1, c41);
    s = v128.load32_splat(pa, 20);
    c50 = madd(s, b0, c50);
    c51 = madd(s, b1, c51);
    pa += 24;
  }
  v128.store(c, c00);
  v128.store(c, c01, 16);
  c += step;
  v128.store(c, c10);
  v128.store(c, c11, 16);
  c += step;
  v128.store(c, c20);
  v128.store(c, c21, 16);
  c += step;
  v128.store(c, c30);
  v128.store(c, c31, 16);
  c += step;
  v128.store(c, c40);
  v128.store(c, c41, 16);
  c += step;
  v128.store(c, c50);
  v128.store(c, c51, 16);
}

/** A tile that C holds only `height` × `width` of: by way of a whole one in scratch. */
function edgeTile(
  c: usize,
  plus: usize,
  cRow: i32,
  pa: usize,
  pb: usize,
  depth: i32,
  height: i32,
  width: i32,
  whole: usize,
): void {
  const bytes = (<usize>width) << 2;
  if (plus) {
    for (let i = 0; i < height; i++) memory.copy(whole + ((<usize>i) << 5), plus + ((<usize>(i * cRow)) << 2), bytes);
  }
  tile(whole, plus ? whole : 0, NR, pa, pb, depth);
  for (let i = 0; i < height; i++) memory.copy(c + ((<usize>(i * cRow)) << 2), whole + ((<usize>i) << 5), bytes);
}

/** `count` columns of B into panels of 8: panel by panel, k by k, 8 numbers, zeros past the end. */
function packB(out: usize, b: usize, step: i32, depthStep: i32, count: i32, depth: i32): void {
  const s = (<usize>step) << 2,
    d = (<usize>depthStep) << 2;
  for (let j = 0; j < count; j += NR, b += s * NR) {
    if (count - j < NR) {
      packEdge(out, b, s, d, NR, count - j, depth);
    } else if (step == 1) {
      for (let k = 0, at = b; k < depth; k++, at += d, out += 32) {
        v128.store(out, v128.load(at));
        v128.store(out, v128.load(at, 16), 16);
      }
    } else {
      const b4 = b + s * 4;
      let k = 0;
      for (; k + 4 <= depth; k += 4, out += 128) {
        const at = (<usize>k) << 2;
        transpose4(out, 32, b + at, s);
        transpose4(out + 16, 32, b4 + at, s);
      }
      for (; k < depth; k++, out += 32) gather(out, b + ((<usize>k) << 2), s, NR);
    }
  }
}

/** `count` rows of A into panels of 6. */
function packA(out: usize, a: usize, step: i32, depthStep: i32, count: i32, depth: i32): void {
  const s = (<usize>step) << 2,
    d = (<usize>depthStep) << 2;
  for (let i = 0; i < count; i += MR, a += s * MR) {
    if (count - i < MR) {
      packEdge(out, a, s, d, MR, count - i, depth);
    } else if (step == 1) {
      for (let k = 0, at = a; k < depth; k++, at += d, out += 24) {
        v128.store(out, v128.load(at));
        store<u64>(out, load<u64>(at, 16), 16);
      }
    } else {
      const a4 = a + s * 4,
        a5 = a4 + s;
      let k = 0;
      for (; k + 4 <= depth; k += 4, out += 96) {
        const at = (<usize>k) << 2;
        transpose4(out, 24, a + at, s);
        const u = v128.load(a4 + at),
          v = v128.load(a5 + at);
        const low = i32x4.shuffle(u, v, 0, 4, 1, 5),
          high = i32x4.shuffle(u, v, 2, 6, 3, 7);
        v128.store64_lane(out, low, 0, 16);
        v128.store64_lane(out, low, 1, 40);
        v128.store64_lane(out, high, 0, 64);
        v128.store64_lane(out, high, 1, 88);
      }
      for (; k < depth; k++, out += 24) gather(out, a + ((<usize>k) << 2), s, MR);
    }
  }
}

/** 4 × 4 numbers: rows `s` bytes apart become columns, `o` bytes from one to the next. */
function transpose4(out: usize, o: usize, from: usize, s: usize): void {
  const r0 = v128.load(from),
    r1 = v128.load(from + s),
    r2 = v128.load(from + 2 * s),
    r3 = v128.load(from + 3 * s);
  const a = i32x4.shuffle(r0, r1, 0, 4, 1, 5),
    b = i32x4.shuffle(r0, r1, 2, 6, 3, 7),
    c = i32x4.shuffle(r2, r3, 0, 4, 1, 5),
    d = i32x4.shuffle(r2, r3, 2, 6, 3, 7);
  v128.store(out, i64x2.shuffle(a, c, 0, 2));
  v128.store(out + o, i64x2.shuffle(a, c, 1, 3));
  v128.store(out + 2 * o, i64x2.shuffle(b, d, 0, 2));
  v128.store(out + 3 * o, i64x2.shuffle(b, d, 1, 3));
}

function gather(out: usize, from: usize, s: usize, count: i32): void {
  for (let i = 0; i < count; i++, from += s) store<f32>(out + ((<usize>i) << 2), load<f32>(from));
}

function packEdge(out: usize, from: usize, s: usize, d: usize, width: i32, count: i32, depth: i32): void {
  for (let k = 0; k < depth; k++, from += d, out += (<usize>width) << 2) {
    gather(out, from, s, count);
    for (let i = count; i < width; i++) store<f32>(out + ((<usize>i) << 2), 0);
  }
}
