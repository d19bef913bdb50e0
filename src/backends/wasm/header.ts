/** The header of the linear memory: words that JavaScript and the command loop agree on (the build writes them for AssemblyScript). */

/** 32-bit words at byte offsets from address 0 of the linear memory. */
export const header = {
  /** Counts replays; followers sleep on it. */
  run: 0,
  arrived: 4,
  phase: 8,
  /** The caller writes the number of the replay that shall stop at its next barrier. */
  cancel: 12,
  /** The number of the last replay that did. */
  stopped: 16,
  quit: 20,
  /** Counts how often memory grew. */
  grown: 24,
  threads: 28,
  scratch: 32,
  scratchBytes: 36,
  /** From here on in the order of a replay's numbers: its own number, T, P, N, rows of a sequence, and its commands. */
  number: 40,
  tokens: 44,
  position: 48,
  outputs: 52,
  length: 56,
  commands: 60,
  commandCount: 64,
} as const;

/** The first byte after the header, on a cache line of its own. */
export const HEADER_BYTES = 128;
