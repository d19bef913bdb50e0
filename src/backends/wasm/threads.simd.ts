/* How threads wait for each other. */
import { threads } from "../../kernels/share.simd";
import { ARRIVED, CANCEL, COMMAND_BYTES, PHASE, STOPPED, TAKEN } from "./generated/words.simd";

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
 * The last to arrive looks whether the caller has cancelled replay `number`, so that all threads stop at the same command, and makes
 * commands `from`…`to`, which all threads have done, ready for the next replay. Which replay has stopped stays known: the leader may
 * be in the next one before a thread that slept here has looked.
 * @returns whether to stop.
 */
export function barrier(number: i32, from: usize, to: usize): bool {
  if (threads == 1) {
    giveBack(from, to);
    return atomic.load<i32>(CANCEL) == number;
  }
  const phase = atomic.load<i32>(PHASE);
  if (atomic.add<i32>(ARRIVED, 1) == threads - 1) {
    if (atomic.load<i32>(CANCEL) == number) atomic.store<i32>(STOPPED, number);
    giveBack(from, to);
    atomic.store<i32>(ARRIVED, 0);
    atomic.add<i32>(PHASE, 1);
    atomic.notify(PHASE, -1);
  } else {
    waitWhile(PHASE, phase);
  }
  return atomic.load<i32>(STOPPED) == number;
}

/** Units of commands `from`…`to` can be taken again. */
function giveBack(from: usize, to: usize): void {
  for (; from < to; from += COMMAND_BYTES) atomic.store<i32>(from + TAKEN, 0);
}
