/**
 * The contract between programs and the devices that replay them. Every backend keeps it; the reference backend (plain
 * TypeScript, f64 sums) says what the numbers should be.
 */
import type { Program } from "../program/program.ts";
import type { Encoding } from "../tensor/encoding.ts";
import type { RunNumbers, Tensor } from "../tensor/tensor.ts";

export type Device = "wasm" | "reference";

export interface Backend {
  readonly device: Device;
  /** Starts the device's threads. Memory is taken as programs are prepared. */
  open(): Promise<Machine>;
}

/**
 * A device's threads and memory. Weights, constants, caches, gradients and moments are the machine's: they are allocated, zeros
 * at first, when a program that names them is prepared, and shared by all programs that do. Calls are carried out in the
 * order in which they were made.
 */
export interface Machine {
  readonly device: Device;
  /** Which build and how many threads, for people: `wasm (relaxed SIMD, 2 threads)`. */
  readonly description: string;
  readonly threads: number;
  /** Bytes as things stand: they grow with every program that is prepared. */
  readonly memory: MemoryReport;
  /**
   * Plans the memory that `program` needs besides what is there, takes it, and makes the program ready to run. Weights that it
   * trains are laid as training needs them, for all programs.
   * @throws {BackendError} before anything is taken, if the plan cannot fit.
   */
  prepare(program: Program): Promise<PreparedProgram>;
  /** Uploads begin at rows that are a multiple of this. */
  readonly uploadStep: number;
  /**
   * Rows of a weight as they lie in a file; laid out for the kernels on the way in. Takes the array's memory over and resolves to an
   * array over it (or as much), to be filled again.
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
  /** Raw bytes into a tensor that lies row by row (no weight, or one that is trained), from its byte `offset` on. */
  write(tensor: Tensor, offset: number, bytes: Uint8Array): Promise<void>;
  /** A copy of raw bytes of such a tensor. */
  read(tensor: Tensor, offset: number, length: number): Promise<Uint8Array>;
  /** Frees threads and memory. */
  dispose(): Promise<void>;
}

/** A program that can be replayed. Its inputs and outputs hold until another program runs. */
export interface PreparedProgram {
  /**
   * Writes `inputs`, replays the program and resolves to the bytes of `output`: one round trip to a worker. On abort it rejects
   * with the signal's reason as soon as the operation in work is done (where memory is shared) or after the replay (where it is
   * not); outputs and cache rows from `position` on are then undefined.
   */
  readonly run: (numbers: RunNumbers, options?: ReplayOptions) => Promise<Uint8Array>;
  /** Gives up the program, and what no other program names. */
  readonly release: () => Promise<void>;
}

/** Prepares programs one after the other: all of them, or none if one fails. */
export async function prepareAll<const T extends readonly Program[]>(
  machine: Machine,
  programs: T,
): Promise<{ [K in keyof T]: PreparedProgram }> {
  const prepared: PreparedProgram[] = [];
  try {
    for (const program of programs) prepared.push(await machine.prepare(program));
  } catch (error) {
    await releaseAll(prepared);
    throw error;
  }
  return prepared as { [K in keyof T]: PreparedProgram };
}

/** Gives up programs one after the other. */
export async function releaseAll(prepared: readonly Pick<PreparedProgram, "release">[]): Promise<void> {
  for (const program of prepared) await program.release();
}

export type ReplayOptions = {
  /** Written from byte `offset` on, 0 by default. */
  readonly inputs?: readonly { readonly tensor: Tensor; readonly bytes: Uint8Array; readonly offset?: number }[];
  /** The first `length` bytes to give back. Default: none. */
  readonly output?: { readonly tensor: Tensor; readonly length: number };
  readonly signal?: AbortSignal | undefined;
};

/** Bytes by class, known before they are taken. */
export type MemoryReport = {
  readonly weights: number;
  readonly constants: number;
  readonly cache: number;
  readonly gradients: number;
  /** The optimizer's moments. */
  readonly moments: number;
  /** Shared places of activations, and inputs and outputs. */
  readonly activations: number;
  /** Commands, scratch and bookkeeping of the device. */
  readonly program: number;
  readonly total: number;
};

/** The bytes of tensors, by class. */
export function sumByClass(tensors: Iterable<readonly [tensor: Tensor, bytes: number]>): Record<MemoryClass, number> {
  const sums = { weights: 0, constants: 0, cache: 0, gradients: 0, moments: 0, activations: 0 };
  for (const [tensor, bytes] of tensors) sums[memoryClass(tensor)] += bytes;
  return sums;
}

type MemoryClass = Exclude<keyof MemoryReport, "program" | "total">;

/** Where the bytes of a tensor are counted: where cache rows stand in their texts, with what is made of them. */
function memoryClass({ kind, dtype }: Tensor): MemoryClass {
  switch (kind) {
    case "weight":
      return "weights";
    case "constant":
      return "constants";
    case "cache":
      return dtype === "i32" ? "activations" : "cache";
    case "gradient":
      return "gradients";
    case "moment":
      return "moments";
    default:
      return "activations";
  }
}
