/**
 * The words that JavaScript and the command loop (program.simd.ts) agree on, which words.simd.ts
 * has again. All are 32-bit, at byte offsets from address 0 of the linear memory.
 */
export const header = {
  /** Counts replays; followers sleep on it. */
  run: 0,
  arrived: 4,
  phase: 8,
  /** Set by the caller to stop at the next barrier. */
  cancel: 12,
  /** Set by the loop when it did. */
  stopped: 16,
  quit: 20,
  threads: 24,
  tokens: 28,
  position: 32,
  outputs: 36,
  length: 40,
  commands: 44,
  commandCount: 48,
  scratch: 52,
  scratchBytes: 56,
} as const;

/** The first byte after the header, on a cache line of its own. */
export const HEADER_BYTES = 128;

/**
 * A command: [operation, barrier before it?, rows (0: tokens, 1: outputs), out, a, b, width, …], 16 words. What the
 * words from 6 on mean is up to the operation (compile.ts writes them, program.simd.ts reads them), but for the last: how many units
 * threads have taken so far, 0 between replays.
 */
export const COMMAND_WORDS = 16;

export const opcode = {
  embed: 0,
  rmsnorm: 1,
  quantize: 2,
  linear: 3,
  rope: 4,
  store: 5,
  attention: 6,
  swiglu: 7,
  relu: 8,
  add: 9,
  pick: 10,
  matmul: 11,
  selfAttention: 12,
  selfAttentionBack: 13,
  rmsnormBack: 14,
  gainBack: 15,
  swigluBack: 16,
  reluBack: 17,
  embedBack: 18,
  crossEntropyRows: 19,
  squares: 20,
  clip: 21,
  adamw: 22,
  clear: 23,
  logProbability: 24,
  momentum: 25,
  normalize: 26,
  scale: 27,
  /** `matmul` of a fixed number of rows. */
  fixedMatmul: 28,
  muonStep: 29,
} as const;

/** The three products of training: x·wᵀ, dy·w, dyᵀ·x. */
export const productForm = { forward: 0, input: 1, weight: 2 } as const;

/** What a thread needs for training: the panels of matmul.simd.ts, and the tiles of self-attention.simd.ts. */
export const TRAINING_SCRATCH_BYTES = 1_310_720;

/** How a weight lies: a dtype in blocks of 8 rows, or f32 row by row. */
export const weightForm = { f32: 0, bf16: 1, q8: 2, q4: 3, rows: 4 } as const;
