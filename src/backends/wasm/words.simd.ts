/*
 * The words that the command loop shares with JavaScript, as in layout.ts: the header at address 0, and commands of 16 words.
 */

export const RUN: usize = 0;
export const ARRIVED: usize = 4;
export const PHASE: usize = 8;
export const CANCEL: usize = 12;
export const STOPPED: usize = 16;
export const QUIT: usize = 20;
export const THREADS: usize = 24;
export const TOKENS: usize = 28;
export const POSITION: usize = 32;
export const OUTPUTS: usize = 36;
export const LENGTH: usize = 40;
export const COMMANDS: usize = 44;
export const COMMAND_COUNT: usize = 48;
export const SCRATCH: usize = 52;
export const SCRATCH_BYTES: usize = 56;

export const COMMAND_BYTES: usize = 64;
/** Of a command: how many units threads have taken. */
export const TAKEN: usize = 60;

export enum Opcode {
  embed,
  rmsnorm,
  quantize,
  linear,
  rope,
  store,
  attention,
  swiglu,
  relu,
  add,
  pick,
  matmul,
  selfAttention,
  selfAttentionBack,
  rmsnormBack,
  gainBack,
  swigluBack,
  reluBack,
  embedBack,
  crossEntropyRows,
  squares,
  clip,
  adamw,
  clear,
  logProbability,
  momentum,
  normalize,
  scale,
  fixedMatmul,
  muonStep,
}

export function word(command: usize, index: usize): i32 {
  return load<i32>(command + (index << 2));
}

export function float(command: usize, index: usize): f32 {
  return load<f32>(command + (index << 2));
}

export function pointer(command: usize, index: usize): usize {
  return <usize>load<u32>(command + (index << 2));
}
