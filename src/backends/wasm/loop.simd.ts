/*
 * The command loop: every thread walks the same list of commands in linear memory, takes its share of each one's units, and
 * meets the others at a barrier where a command says so. The build writes the header's words, and the call of each kernel
 * (layout.ts, kernels/kernels.ts, scripts/build.mjs).
 */
import { join } from "../../kernels/share.simd";
import { carryOut } from "./generated/commands.simd";
import {
  BARRIER,
  COMMAND_BYTES,
  COMMAND_COUNT,
  COMMANDS,
  GROWN,
  LENGTH,
  NUMBER,
  OUTPUTS,
  POSITION,
  QUIT,
  ROWS,
  ROWS_OUTPUTS,
  ROWS_TOKENS,
  RUN,
  SCRATCH,
  SCRATCH_BYTES,
  THREADS,
  TOKENS,
} from "./generated/words.simd";
import { barrier, waitWhile } from "./threads.simd";

/** Thread 0: wakes the others and runs the program once. */
export function run(): void {
  atomic.add<i32>(RUN, 1);
  atomic.notify(RUN, -1);
  walk(0);
}

/**
 * Threads 1 and up: run whenever thread 0 does, until told to quit, or until memory has grown since `grown`: then the host makes
 * the new pages known to this thread, and calls again.
 * @param seen the runs before this call.
 * @returns the runs until now.
 */
export function follow(index: i32, seen: i32, grown: i32): i32 {
  while (true) {
    waitWhile(RUN, seen);
    if (atomic.load<i32>(QUIT) || atomic.load<i32>(GROWN) != grown) return seen;
    seen = atomic.load<i32>(RUN);
    walk(index);
  }
}

function walk(index: i32): void {
  join(index, load<i32>(THREADS));
  const number = load<i32>(NUMBER);
  const position = load<i32>(POSITION);
  const length = load<i32>(LENGTH);
  const scratch = <usize>load<u32>(SCRATCH) + <usize>index * <usize>load<u32>(SCRATCH_BYTES);
  const count = load<i32>(COMMAND_COUNT);
  let command = <usize>load<u32>(COMMANDS);
  let done = command; // up to the last barrier
  for (let i = 0; i < count; i++) {
    if (load<i32>(command + BARRIER)) {
      if (barrier(number, done, command)) return;
      done = command;
    }
    let rows = load<i32>(command + ROWS);
    if (rows == ROWS_TOKENS) rows = load<i32>(TOKENS);
    else if (rows == ROWS_OUTPUTS) rows = load<i32>(OUTPUTS);
    carryOut(command, rows, position, length, scratch);
    command += COMMAND_BYTES;
  }
  barrier(number, done, command);
}
