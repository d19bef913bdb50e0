/* How threads wait for each other. */
import { threads } from "../../kernels/share.simd";
import { ARRIVED, CANCEL, COMMAND_BYTES, NUMBER, PHASE, STOPPED, TAKEN } from "./generated/words.simd";

/** About 20 µs: longer than an operation's imbalance, shorter than a time slice. */
const SPINS: i32 = 4000;

/** Until the word at `address` is no longer `value`: spins for a while, then sleeps until it is woken. */
export function waitWhile(address: usize, value: i32): void {
  let spins = 0;
  while (atomic.load<i32>(address) == value) {
    if (++spins > SPINS) atomic.wait<i32>(address, value, -1);
  }
}

/**
 * The last to arrive looks whether the caller has cancelled this replay, so that all threads stop at the same command, and makes
 * commands `from`…`to`, which all threads have done, ready for the next replay.
 * @returns whether to stop.
 */
export function barrier(from: usize, to: usize): bool {
  if (threads == 1) {
    giveBack(from, to);
    if (isCancelled()) store<i32>(STOPPED, 1);
    return load<i32>(STOPPED) != 0;
  }
  const phase = atomic.load<i32>(PHASE);
  if (atomic.add<i32>(ARRIVED, 1) == threads - 1) {
    if (isCancelled()) atomic.store<i32>(STOPPED, 1);
    giveBack(from, to);
    atomic.store<i32>(ARRIVED, 0);
    atomic.add<i32>(PHASE, 1);
    atomic.notify(PHASE, -1);
  } else {
    waitWhile(PHASE, phase);
  }
  return atomic.load<i32>(STOPPED) != 0;
}

function isCancelled(): bool {
  return atomic.load<i32>(CANCEL) == load<i32>(NUMBER);
}

/** Units of commands `from`…`to` can be taken again. */
function giveBack(from: usize, to: usize): void {
  for (; from < to; from += COMMAND_BYTES) atomic.store<i32>(from + TAKEN, 0);
}
