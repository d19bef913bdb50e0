/*
 * How threads divide the units of a command: rows, columns, heads. Which thread makes a unit changes no bit of it. Every thread
 * has an instance of the module, so what it keeps in variables is its own.
 */

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
export function take(taken: usize, total: i32, step: i32): bool {
  first = atomic.add<i32>(taken, step);
  last = min(total, first + step);
  return first < total;
}

/** Units to take at a time: all if a thread is alone. */
export function stepOf(total: i32): i32 {
  return threads == 1 ? total : max(1, total / (threads << 4));
}

/** Sequences of `length` in `rows`; the last may be shorter. */
export function sequences(rows: i32, length: i32): i32 {
  return (rows + length - 1) / length;
}
