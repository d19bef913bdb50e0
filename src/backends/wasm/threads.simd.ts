/*
 * How threads wait for each other and divide the units of a command: rows, columns, heads. Which thread makes a unit changes no
 * bit of it. Every thread has an instance of this module, so what it keeps in variables is its own.
 */
import { ARRIVED, CANCEL, COMMAND_BYTES, PHASE, STOPPED, TAKEN } from "./words.simd";

/** About 20 µs: longer than an operation's imbalance, shorter than a time slice. */
const SPINS: i32 = 4000;

export let thread: i32 = 0;
export let threads: i32 = 1;

/** The units `first` up to `last` of a command are this thread's: what the last share or `take` gave it. */
export let first: i32 = 0;
export let last: i32 = 0;

/** This thread is `index` of `count`. */
export function join(index: i32, count: i32): void {
  thread = index;
  threads = count;
}

/** Until the word at `address` is no longer `value`: spins for a while, then sleeps until it is woken. */
export function waitWhile(address: usize, value: i32): void {
  let spins = 0;
  while (atomic.load<i32>(address) == value) {
    if (++spins > SPINS) atomic.wait<i32>(address, value, -1);
  }
}

/**
 * The last to arrive looks whether the caller has cancelled, so that all threads stop at the same command, and makes commands
 * `from`…`to`, which all threads have done, ready for the next replay.
 * @returns whether to stop.
 */
export function barrier(from: usize, to: usize): bool {
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
    waitWhile(PHASE, phase);
  }
  return atomic.load<i32>(STOPPED) != 0;
}

/** Units of commands `from`…`to` can be taken again. */
function giveBack(from: usize, to: usize): void {
  for (; from < to; from += COMMAND_BYTES) atomic.store<i32>(from + TAKEN, 0);
}

/** Equal shares of `total` units, each in one piece, in whole runs of `run`; only the last may be shorter. */
export function share(total: i32, run: i32 = 1): void {
  const runs = (total + run - 1) / run;
  first = startOf(runs, thread) * run;
  last = min(total, startOf(runs, thread + 1) * run);
}

function startOf(total: i32, index: i32): i32 {
  return <i32>((<i64>total * index) / threads);
}

/**
 * The next `step` of `total` units that no thread has taken: one on a slower core takes fewer.
 * @returns false if there are none left.
 */
export function take(command: usize, total: i32, step: i32): bool {
  first = atomic.add<i32>(command + TAKEN, step);
  last = min(total, first + step);
  return first < total;
}

/** Units to take at a time: all if a thread is alone. */
export function stepOf(total: i32): i32 {
  return threads == 1 ? total : max(1, total / (threads << 4));
}
