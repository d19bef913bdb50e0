/*
 * The command loop: every thread walks the same list of commands in linear memory, takes its share of each operation's
 * rows, and meets the others at a barrier where a command says so. Layouts of header and commands: words.simd.ts.
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
import { barrier, first, join, last, share, stepOf, take, thread, waitWhile } from "./threads.simd";
import {
  COMMAND_BYTES,
  COMMAND_COUNT,
  COMMANDS,
  float,
  LENGTH,
  Opcode,
  OUTPUTS,
  pointer,
  POSITION,
  QUIT,
  RUN,
  SCRATCH,
  SCRATCH_BYTES,
  STOPPED,
  THREADS,
  TOKENS,
  word,
} from "./words.simd";

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
export function follow(index: i32, seen: i32): void {
  while (true) {
    waitWhile(RUN, seen);
    seen = atomic.load<i32>(RUN);
    if (atomic.load<i32>(QUIT)) return;
    walk(index);
  }
}

/** Rows of a chunk that start at word `start`: at most as many as the word after it says, fewer at the end, none past it. */
function chunkRows(command: usize, start: usize, T: i32): i32 {
  return max(0, min(word(command, start + 1), T - word(command, start)));
}

/** One of the three products of training, by whole micro-tiles of the longer side. */
function product(command: usize, T: i32, scratch: usize): void {
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
    share(M, 6);
    const skip = (<usize>(first * N)) << 2;
    const aFirst = a + ((<usize>(first * aRow)) << 2);
    const plusFirst = plus ? plus + skip : 0;
    matmul(c + skip, plusFirst, N, aFirst, aRow, aCol, b, bRow, bCol, last - first, depth, 0, N, scratch);
  } else {
    share(N, 8);
    matmul(c, plus, N, a, aRow, aCol, b, bRow, bCol, M, depth, first, last, scratch);
  }
}

function linear(command: usize, rows: i32, scratch: usize): void {
  if (rows == 0) return;
  const y = pointer(command, 3),
    x = pointer(command, 4),
    w = pointer(command, 5);
  const K = word(command, 6),
    O = word(command, 7),
    form = word(command, 8);
  const blocks = (O + 7) >> 3;
  if (form < 2 || rows < TAKING_ROWS) {
    share(blocks);
    linearBlocks(form, y, x, w, scratch, rows, K, O);
  } else {
    // in twos, so that two threads seldom write to one cache line
    const step = stepOf(blocks) << 1;
    while (take(command, blocks, step)) linearBlocks(form, y, x, w, scratch, rows, K, O);
  }
}

/** Blocks `first` up to `last` of 8 outputs. */
function linearBlocks(form: i32, y: usize, x: usize, w: usize, scratch: usize, rows: i32, K: i32, O: i32): void {
  if (form == 0) linearFloat<f32>(y, x, w, scratch, rows, K, O, first, last);
  else if (form == 1) linearFloat<u16>(y, x, w, scratch, rows, K, O, first, last);
  else if (form == 2) linearQ8(y, x, w, scratch, rows, K, O, first, last);
  else linearQ4(y, x, w, scratch, rows, K, O, first, last);
}

/** Sequences of `length` in `rows`; the last may be shorter. */
function sequences(rows: i32, length: i32): i32 {
  return (rows + length - 1) / length;
}

function walk(index: i32): void {
  join(index, load<i32>(THREADS));
  const T = load<i32>(TOKENS);
  const N = load<i32>(OUTPUTS);
  const position = load<i32>(POSITION);
  const length = load<i32>(LENGTH);
  const scratch = pointer(SCRATCH, 0) + <usize>index * pointer(SCRATCH_BYTES, 0);
  const count = load<i32>(COMMAND_COUNT);
  let command = pointer(COMMANDS, 0);
  let done = command; // up to the last barrier
  for (let i = 0; i < count; i++) {
    if (word(command, 1)) {
      if (barrier(done, command)) return;
      done = command;
    }
    const rows = word(command, 2) == 0 ? T : N;
    const out = pointer(command, 3),
      a = pointer(command, 4),
      b = pointer(command, 5);
    const width = word(command, 6);
    switch (word(command, 0)) {
      case Opcode.embed:
        share(rows);
        embed(out, a, b, width, word(command, 7), first, last);
        break;
      case Opcode.rmsnorm:
        share(rows);
        rmsnorm(out, a, b, width, float(command, 7), first, last);
        break;
      case Opcode.quantize:
        share(rows);
        quantize(out, a, width, first, last);
        break;
      case Opcode.linear:
        linear(command, rows, scratch);
        break;
      case Opcode.rope: {
        const isInverse = word(command, 8) != 0;
        share(rows);
        rope(out, a, b, width, word(command, 7), position, length, isInverse, pointer(command, 9), first, last);
        break;
      }
      case Opcode.store: {
        const bytes = (<usize>width) << 2;
        share(rows);
        memory.copy(out + <usize>(position + first) * bytes, a + <usize>first * bytes, <usize>(last - first) * bytes);
        break;
      }
      case Opcode.attention: {
        const values = pointer(command, 7),
          places = pointer(command, 10);
        const G = word(command, 8),
          D = word(command, 9);
        const step = stepOf(rows * G);
        while (take(command, rows * G, step)) {
          attention(out, a, b, values, scratch, rows, width, G, D, position, places, first, last);
        }
        break;
      }
      case Opcode.swiglu:
        share(rows * width, 4);
        swiglu(out, a, b, first, last);
        break;
      case Opcode.relu:
        share(rows * width, 4);
        relu(out, a, first, last);
        break;
      case Opcode.add:
        share(rows * width, 4);
        add(out, a, b, first, last);
        break;
      case Opcode.pick: {
        const bytes = (<usize>width) << 2;
        share(rows);
        for (let n = first; n < last; n++) {
          memory.copy(out + <usize>n * bytes, a + <usize>load<i32>(b + ((<usize>n) << 2)) * bytes, bytes);
        }
        break;
      }
      case Opcode.matmul:
        product(command, T, scratch);
        break;
      case Opcode.selfAttention: {
        const lse = pointer(command, 7),
          values = pointer(command, 6);
        const H = word(command, 8),
          G = word(command, 9),
          D = word(command, 10);
        while (take(command, sequences(rows, length) * H, 1)) {
          selfAttention(out, lse, a, b, values, H, G, D, rows, length, first, last, scratch);
        }
        break;
      }
      case Opcode.selfAttentionBack: {
        const values = pointer(command, 6),
          dKeys = pointer(command, 7),
          dValues = pointer(command, 8),
          dy = pointer(command, 9),
          y = pointer(command, 10),
          lse = pointer(command, 11);
        const H = word(command, 12) & 0xffff,
          G = word(command, 12) >> 16,
          D = word(command, 13);
        while (take(command, sequences(rows, length) * G, 1)) {
          selfAttentionBack(out, dKeys, dValues, dy, y, lse, a, b, values, H, G, D, rows, length, first, last, scratch);
        }
        break;
      }
      case Opcode.rmsnormBack: {
        const gain = pointer(command, 6),
          plus = pointer(command, 7),
          scales = pointer(command, 8);
        share(rows);
        rmsnormBack(out, scales, a, b, gain, plus, word(command, 9), float(command, 10), first, last);
        break;
      }
      case Opcode.gainBack: {
        const C = word(command, 7);
        share(C, 8);
        gainBack(out, a, b, pointer(command, 6), C, rows, first, last);
        break;
      }
      case Opcode.swigluBack:
        share(rows * word(command, 8), 4);
        swigluBack(out, pointer(command, 7), a, b, pointer(command, 6), first, last);
        break;
      case Opcode.reluBack:
        share(rows * width, 4);
        reluBack(out, a, b, first, last);
        break;
      case Opcode.embedBack:
        share(width, 4);
        embedBack(out, a, b, width, rows, first, last);
        break;
      case Opcode.crossEntropyRows:
        share(chunkRows(command, 8, T));
        crossEntropyRows(out, a, b, pointer(command, 6), word(command, 7), first, last);
        break;
      case Opcode.squares:
        share(countChunks(width));
        squares(out, a, width, first, last);
        break;
      case Opcode.clip:
        if (thread == 0) clip(out, a, b, width);
        break;
      case Opcode.adamw: {
        const mean = pointer(command, 6),
          square = pointer(command, 7),
          norm = pointer(command, 8);
        const decays = word(command, 10) != 0;
        share(word(command, 9), 4);
        adamw(out, a, b, mean, square, norm, decays, first, last);
        break;
      }
      case Opcode.clear:
        share(width, 4);
        memory.fill(out + ((<usize>first) << 2), 0, (<usize>(last - first)) << 2);
        break;
      case Opcode.logProbability:
        share(rows);
        logProbability(out, a, b, scratch, width, first, last);
        break;
      case Opcode.momentum: {
        const sums = pointer(command, 7),
          settings = pointer(command, 8),
          norm = pointer(command, 9);
        share(countChunks(width));
        momentum(out, a, b, sums, settings, norm, width, first, last);
        break;
      }
      case Opcode.normalize:
        share(width, 4);
        normalize(out, a, float(command, 7), width, first, last);
        break;
      case Opcode.scale:
        share(width, 4);
        scale(out, a, float(command, 7), first, last);
        break;
      case Opcode.fixedMatmul:
        product(command, word(command, 11), scratch);
        break;
      case Opcode.muonStep:
        share(width, 4);
        muonStep(out, a, b, pointer(command, 7), float(command, 8), first, last);
        break;
    }
    command += COMMAND_BYTES;
  }
  barrier(done, command);
}
