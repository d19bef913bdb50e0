/**
 * The contract between a program and the devices that replay it. Every backend keeps it; the reference backend (plain
 * TypeScript, f64 sums) says what the numbers should be.
 */
import type { MemoryClasses } from "../program/memory-plan.ts";
import type { Tensor } from "../program/operation.ts";
import type { Program, RunNumbers } from "../program/program.ts";
import type { Encoding } from "../tensor/encoding.ts";

export type Device = "wasm" | "reference";

export interface Backend {
  readonly device: Device;
  /**
   * Plans the memory of `program`, takes it, and makes the program ready to run.
   * @throws {BackendError} before anything is taken, if the plan cannot fit.
   */
  open(program: Program): Promise<Machine>;
}

/** A program on a device. Calls are carried out in the order in which they were made. */
export interface Machine {
  readonly device: Device;
  /** Which build and how many threads, for people: `wasm (relaxed SIMD, 2 threads)`. */
  readonly description: string;
  readonly threads: number;
  readonly memory: MemoryReport;
  /**
   * Rows of a weight as they lie in a file, whole blocks of 8 but for the last; packed for the kernels on the way in. Takes the array's memory over and
   * resolves to an array over it (or as much), to be filled again.
   */
  upload(
    tensor: Tensor,
    rowStart: number,
    rowCount: number,
    encoding: Encoding,
    bytes: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>>;
  /** All rows of a weight in f32, one after the other: what `upload` packed, unpacked. */
  download(tensor: Tensor): Promise<Float32Array>;
  /** Raw bytes into a cache or an input, from its byte `offset` on. */
  write(tensor: Tensor, offset: number, bytes: Uint8Array): Promise<void>;
  /** A copy of raw bytes of a cache or an output. */
  read(tensor: Tensor, offset: number, length: number): Promise<Uint8Array>;
  /**
   * Writes `inputs`, replays the program and resolves to the bytes of `output`: one round trip to a worker. On abort it rejects with the signal's reason as soon as the operation in work is done (where
   * memory is shared) or after the replay (where it is not); outputs and cache rows from `position` on are then undefined.
   */
  run(numbers: RunNumbers, options?: RunOptions): Promise<Uint8Array>;
  /** Frees threads and memory. */
  dispose(): Promise<void>;
}

export type RunOptions = {
  /** Written from byte `offset` on, 0 by default. */
  readonly inputs?: readonly { readonly tensor: Tensor; readonly bytes: Uint8Array; readonly offset?: number }[];
  /** Which stretch of the program; default: all of it. */
  readonly part?: string;
  /** The first `length` bytes to give back. Default: none. */
  readonly output?: { readonly tensor: Tensor; readonly length: number };
  readonly signal?: AbortSignal | undefined;
};

/** Bytes by class, known before they are taken. */
export type MemoryReport = MemoryClasses & {
  /** Commands, scratch and bookkeeping of the device. */
  readonly program: number;
  readonly total: number;
};
