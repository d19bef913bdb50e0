/*
 * The command loop: every thread walks the same list of commands in linear memory, takes its share of each operation's
 * rows, and meets the others at a barrier where a command says so. Layouts of header and commands: layout.ts.
 */
import { adamw, clip, countChunks, squares } from "../../kernels/adamw/adamw.simd";
import { attention } from "../../kernels/attention/attention.simd";
import { crossEntropyRows } from "../../kernels/cross-entropy/cross-entropy.simd";
import { add, relu, swiglu } from "../../kernels/elementwise/elementwise.simd";
import { reluBack, swigluBack } from "../../kernels/elementwise/elementwise-gradient.simd";
import { embed } from "../../kernels/embed/embed.simd";
import { embedBack } from "../../kernels/embed/embed-gradient.simd";
import { linearFloat } from "../../kernels/linear/linear-float.simd";
import { linearQ4 } from "../../kernels/linear/linear-q4.simd";
import { linearQ8 } from "../../kernels/linear/linear-q8.simd";
import { logProbability } from "../../kernels/log-probability/log-probability.simd";
import { matmul } from "../../kernels/matmul/matmul.simd";
import { momentum, muonStep, normalize, scale } from "../../kernels/muon/muon.simd";
import { quantize } from "../../kernels/quantize/quantize.simd";
import { rmsnorm } from "../../kernels/rmsnorm/rmsnorm.simd";
import { gainBack, rmsnormBack } from "../../kernels/rmsnorm/rmsnorm-gradient.simd";
import { rope } from "../../kernels/rope/rope.simd";
import { selfAttention, selfAttentionBack } from "../../kernels/self-attention/self-attention.simd";

// Header: byte offsets from address 0, equal to `header` in layout.ts.
const RUN: usize = 0;
const ARRIVED: usize = 4;
const PHASE: usize = 8;
const CANCEL: usize = 12;
const STOPPED: usize = 16;
const QUIT: usize = 20;
const THREADS: usize = 24;
const TOKENS: usize = 28;
const POSITION: usize = 32;
const OUTPUTS: usize = 36;
const LENGTH: usize = 40;
const COMMANDS: usize = 44;
const COMMAND_COUNT: usize = 48;
const SCRATCH: usize = 52;
const SCRATCH_BYTES: usize = 56;

/** About 20 µs: longer than an operation's imbalance, shorter than a time slice. */
const SPINS: i32 = 4000;

const COMMAND_BYTES: usize = 64;
/** Of a command: how many units threads have taken. */
const TAKEN: usize = 60;
/** Fewer rows wait for memory, and equal shares are read best. */
const TAKING_ROWS: i32 = 4;

/** Thread 0: wakes the others and runs the program once. */
export function run(): void {
  store<i32>(STOPPED, 0);
  atomic.add<i32>(RUN, 1);
  atomic.notify(RUN, -1);
  walk(0);
}

/** Threads 1 and up: run whenever thread 0 does, until told to quit. `seen` is the count of runs at the start. */
export function follow(thread: i32, seen: i32): void {
  while (true) {
    let spins = 0;
    while (atomic.load<i32>(RUN) == seen) {
      if (++spins > SPINS) atomic.wait<i32>(RUN, seen, -1);
    }
    seen = atomic.load<i32>(RUN);
    if (atomic.load<i32>(QUIT)) return;
    walk(thread);
  }
}

/**
 * The last to arrive looks whether the caller has cancelled, so that all threads stop at the same command, and makes commands
 * `from`…`to`, which all threads have done, ready for the next replay.
 */
function barrier(threads: i32, from: usize, to: usize): bool {
  if (threads == 1) {
    giveBack(from, to);
    if (atomic.load<i32>(CANCEL)) store<i32>(STOPPED, 1);
    return load<i32>(STOPPED) != 0;
  }
  const phase = atomic.load<i32>(PHASE);
  if (atomic.add<i32>(ARRIVED, 1) == threads - 1) {
    if (atomic.load<i32>(CANCEL)) atomic.store<i32>(STOPPED, 1);
    giveBack(from, to);
    atomic.store<i32>(ARRIVED, 0);
    atomic.add<i32>(PHASE, 1);
    atomic.notify(PHASE, -1);
  } else {
    let spins = 0;
    while (atomic.load<i32>(PHASE) == phase) {
      if (++spins > SPINS) atomic.wait<i32>(PHASE, phase, -1);
    }
  }
  return atomic.load<i32>(STOPPED) != 0;
}

/** Units of commands `from`…`to` can be taken again. */
function giveBack(from: usize, to: usize): void {
  for (; from < to; from += COMMAND_BYTES) atomic.store<i32>(from + TAKEN, 0);
}

/**
 * The first of the next `step` units of a command that no thread has taken: one on a slower core takes fewer. Which thread makes a unit
 * changes no bit of it.
 */
function take(command: usize, step: i32): i32 {
  return atomic.add<i32>(command + TAKEN, step);
}

/** Units to take at a time, in twos so that two threads seldom write to one cache line; all if a thread is alone. */
function stepOf(units: i32, threads: i32): i32 {
  return threads == 1 ? units : max(1, units / (threads << 4)) << 1;
}

function word(command: usize, index: usize): i32 {
  return load<i32>(command + (index << 2));
}

function pointer(command: usize, index: usize): usize {
  return <usize>load<u32>(command + (index << 2));
}

/** First of `total` units that belong to `thread`; those of thread + 1 start where its own end. */
function share(total: i32, thread: i32, threads: i32): i32 {
  return <i32>((<i64>total * thread) / threads);
}

/** As `share`, in whole vectors of four. */
function shareOfFours(total: i32, thread: i32, threads: i32): i32 {
  return thread == threads ? total : share(total >> 2, thread, threads) << 2;
}

/** Rows of a chunk that start at `word(command, 9)`: at most word 10, fewer at the end, none past it. */
function chunkRows(command: usize, start: usize, T: i32): i32 {
  return max(0, min(word(command, start + 1), T - word(command, start)));
}

/** One of the three products of training, by whole micro-tiles of the longer side. */
function product(command: usize, T: i32, scratch: usize, thread: i32, threads: i32): void {
  const c = pointer(command, 3),
    plus = pointer(command, 4),
    a = pointer(command, 5),
    b = pointer(command, 6);
  const K = word(command, 7),
    O = word(command, 8),
    form = word(command, 9);
  const rows = chunkRows(command, 10, T);
  if (rows == 0) return;
  // C (M, N) sums over `depth`
  const M = form == 2 ? O : rows;
  const N = form == 0 ? O : K;
  const depth = form == 0 ? K : form == 1 ? O : rows;
  const aRow = form == 0 ? K : form == 1 ? O : 1;
  const aCol = form == 2 ? O : 1;
  const bRow = form == 0 ? 1 : K;
  const bCol = form == 0 ? K : 1;
  if (M >= N) {
    const units = (M + 5) / 6;
    const first = share(units, thread, threads) * 6,
      last = min(M, share(units, thread + 1, threads) * 6);
    const skip = (<usize>(first * N)) << 2;
    matmul(
      c + skip,
      plus ? plus + skip : 0,
      N,
      a + ((<usize>(first * aRow)) << 2),
      aRow,
      aCol,
      b,
      bRow,
      bCol,
      last - first,
      depth,
      0,
      N,
      scratch,
    );
  } else {
    const first = shareOfEights(N, thread, threads),
      last = shareOfEights(N, thread + 1, threads);
    matmul(c, plus, N, a, aRow, aCol, b, bRow, bCol, M, depth, first, last, scratch);
  }
}

/** As `share`, in whole pairs of vectors. */
function shareOfEights(total: i32, thread: i32, threads: i32): i32 {
  return min(total, share((total + 7) >> 3, thread, threads) << 3);
}

function linear(
  dtype: i32,
  y: usize,
  x: usize,
  w: usize,
  scratch: usize,
  rows: i32,
  K: i32,
  O: i32,
  from: i32,
  to: i32,
): void {
  if (dtype == 0) linearFloat<f32>(y, x, w, scratch, rows, K, O, from, to);
  else if (dtype == 1) linearFloat<u16>(y, x, w, scratch, rows, K, O, from, to);
  else if (dtype == 2) linearQ8(y, x, w, scratch, rows, K, O, from, to);
  else linearQ4(y, x, w, scratch, rows, K, O, from, to);
}

function walk(thread: i32): void {
  const threads = load<i32>(THREADS);
  const T = load<i32>(TOKENS);
  const N = load<i32>(OUTPUTS);
  const position = load<i32>(POSITION);
  const length = load<i32>(LENGTH);
  const scratch = pointer(SCRATCH, 0) + <usize>thread * pointer(SCRATCH_BYTES, 0);
  const count = load<i32>(COMMAND_COUNT);
  let command = pointer(COMMANDS, 0);
  let done = command; // up to the last barrier
  for (let i = 0; i < count; i++) {
    if (word(command, 1)) {
      if (barrier(threads, done, command)) return;
      done = command;
    }
    const rows = word(command, 2) == 0 ? T : N;
    const from = share(rows, thread, threads),
      to = share(rows, thread + 1, threads);
    const out = pointer(command, 3),
      a = pointer(command, 4),
      b = pointer(command, 5);
    const width = word(command, 6);
    switch (word(command, 0)) {
      case 0:
        embed(out, a, b, width, word(command, 7), from, to);
        break;
      case 1:
        rmsnorm(out, a, b, width, load<f32>(command + 28), from, to);
        break;
      case 2:
        quantize(out, a, width, from, to);
        break;
      case 3: {
        const K = width,
          O = word(command, 7),
          dtype = word(command, 8);
        const units = (O + 7) >> 3;
        if (rows == 0) break;
        if (dtype < 2 || rows < TAKING_ROWS) {
          linear(
            dtype,
            out,
            a,
            b,
            scratch,
            rows,
            K,
            O,
            share(units, thread, threads),
            share(units, thread + 1, threads),
          );
          break;
        }
        const step = stepOf(units, threads);
        for (let first = take(command, step); first < units; first = take(command, step)) {
          linear(dtype, out, a, b, scratch, rows, K, O, first, min(units, first + step));
        }
        break;
      }
      case 4:
        rope(
          out,
          a,
          b,
          width,
          word(command, 7),
          position,
          length,
          word(command, 8) != 0,
          pointer(command, 9),
          from,
          to,
        );
        break;
      case 5: {
        const bytes = (<usize>width) << 2;
        memory.copy(out + <usize>(position + from) * bytes, a + <usize>from * bytes, <usize>(to - from) * bytes);
        break;
      }
      case 6: {
        const G = word(command, 8);
        const units = rows * G;
        const step = threads == 1 ? units : max(1, units / (threads << 4));
        for (let first = take(command, step); first < units; first = take(command, step)) {
          attention(
            out,
            a,
            b,
            pointer(command, 7),
            scratch,
            rows,
            width,
            G,
            word(command, 9),
            position,
            pointer(command, 10),
            first,
            min(units, first + step),
          );
        }
        break;
      }
      case 7:
        swiglu(out, a, b, shareOfFours(rows * width, thread, threads), shareOfFours(rows * width, thread + 1, threads));
        break;
      case 8:
        relu(out, a, shareOfFours(rows * width, thread, threads), shareOfFours(rows * width, thread + 1, threads));
        break;
      case 9:
        add(out, a, b, shareOfFours(rows * width, thread, threads), shareOfFours(rows * width, thread + 1, threads));
        break;
      case 10: {
        const bytes = (<usize>width) << 2;
        for (let n = from; n < to; n++) {
          memory.copy(out + <usize>n * bytes, a + <usize>load<i32>(b + ((<usize>n) << 2)) * bytes, bytes);
        }
        break;
      }
      case 11:
        product(command, T, scratch, thread, threads);
        break;
      case 12: {
        const H = word(command, 8);
        const units = ((rows + length - 1) / length) * H;
        for (let unit = take(command, 1); unit < units; unit = take(command, 1)) {
          selfAttention(
            out,
            pointer(command, 7),
            a,
            b,
            pointer(command, 6),
            H,
            word(command, 9),
            word(command, 10),
            rows,
            length,
            unit,
            unit + 1,
            scratch,
          );
        }
        break;
      }
      case 13: {
        const heads = word(command, 12);
        const G = heads >> 16;
        const units = ((rows + length - 1) / length) * G;
        for (let unit = take(command, 1); unit < units; unit = take(command, 1)) {
          selfAttentionBack(
            out,
            pointer(command, 7),
            pointer(command, 8),
            pointer(command, 9),
            pointer(command, 10),
            pointer(command, 11),
            a,
            b,
            pointer(command, 6),
            heads & 0xffff,
            G,
            word(command, 13),
            rows,
            length,
            unit,
            unit + 1,
            scratch,
          );
        }
        break;
      }
      case 14:
        rmsnormBack(
          out,
          pointer(command, 8),
          a,
          b,
          pointer(command, 6),
          pointer(command, 7),
          word(command, 9),
          load<f32>(command + 40),
          from,
          to,
        );
        break;
      case 15: {
        const C = word(command, 7);
        const first = shareOfEights(C, thread, threads),
          last = shareOfEights(C, thread + 1, threads);
        gainBack(out, a, b, pointer(command, 6), C, rows, first, last);
        break;
      }
      case 16: {
        const count = rows * word(command, 8);
        const first = shareOfFours(count, thread, threads),
          last = shareOfFours(count, thread + 1, threads);
        swigluBack(out, pointer(command, 7), a, b, pointer(command, 6), first, last);
        break;
      }
      case 17:
        reluBack(
          out,
          a,
          b,
          shareOfFours(rows * width, thread, threads),
          shareOfFours(rows * width, thread + 1, threads),
        );
        break;
      case 18:
        embedBack(
          out,
          a,
          b,
          width,
          rows,
          shareOfFours(width, thread, threads),
          shareOfFours(width, thread + 1, threads),
        );
        break;
      case 19: {
        const count = chunkRows(command, 8, T);
        const first = share(count, thread, threads),
          last = share(count, thread + 1, threads);
        crossEntropyRows(out, a, b, pointer(command, 6), word(command, 7), first, last);
        break;
      }
      case 20: {
        const chunks = countChunks(width);
        squares(out, a, width, share(chunks, thread, threads), share(chunks, thread + 1, threads));
        break;
      }
      case 21:
        if (thread == 0) clip(out, a, b, width);
        break;
      case 22: {
        const count = word(command, 9);
        const first = shareOfFours(count, thread, threads),
          last = shareOfFours(count, thread + 1, threads);
        adamw(
          out,
          a,
          b,
          pointer(command, 6),
          pointer(command, 7),
          pointer(command, 8),
          word(command, 10) != 0,
          first,
          last,
        );
        break;
      }
      case 23: {
        const first = (<usize>shareOfFours(width, thread, threads)) << 2,
          last = (<usize>shareOfFours(width, thread + 1, threads)) << 2;
        memory.fill(out + first, 0, last - first);
        break;
      }
      case 24:
        logProbability(out, a, b, scratch, width, from, to);
        break;
      case 25: {
        const chunks = countChunks(width);
        const first = share(chunks, thread, threads),
          last = share(chunks, thread + 1, threads);
        momentum(out, a, b, pointer(command, 7), pointer(command, 8), pointer(command, 9), width, first, last);
        break;
      }
      case 26: {
        const first = shareOfFours(width, thread, threads),
          last = shareOfFours(width, thread + 1, threads);
        normalize(out, a, load<f32>(command + 28), width, first, last);
        break;
      }
      case 27: {
        const first = shareOfFours(width, thread, threads),
          last = shareOfFours(width, thread + 1, threads);
        scale(out, a, load<f32>(command + 28), first, last);
        break;
      }
      case 28:
        product(command, word(command, 11), scratch, thread, threads);
        break;
      case 29: {
        const first = shareOfFours(width, thread, threads),
          last = shareOfFours(width, thread + 1, threads);
        muonStep(out, a, b, pointer(command, 7), load<f32>(command + 32), first, last);
        break;
      }
    }
    command += COMMAND_BYTES;
  }
  barrier(threads, done, command);
}
