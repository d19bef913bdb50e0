/**
 * What runs inside a worker: one instance of the kernels over the shared memory. Thread 0 (the leader) answers messages;
 * the others block inside WebAssembly and follow it.
 */
import { decodeBlocks } from "../../tensor/blocks.ts";
import { packedBytes, type Dtype } from "../../tensor/dtype.ts";
import type { Encoding } from "../../tensor/encoding.ts";
import { packRows } from "../../tensor/pack.ts";
import { unpackRows } from "../../tensor/unpack.ts";
import { header, HEADER_BYTES } from "./header.ts";

/** Sent once to every worker. */
export type StartMessage = {
  readonly kind: "start";
  readonly module: WebAssembly.Module;
  /** Missing where none can be shared: the worker makes its own. */
  readonly memory: WebAssembly.Memory | undefined;
  readonly thread: number;
};

/** Where a weight is, and how it lies there. */
export type Weight = {
  readonly address: number;
  readonly dtype: Dtype;
  readonly isBlocked: boolean;
  readonly rows: number;
  readonly cols: number;
};

/** Sent to the leader; answered with a `Reply` of the same id. */
export type Request =
  | {
      readonly kind: "upload";
      readonly weight: Weight;
      readonly rowStart: number;
      readonly rowCount: number;
      readonly encoding: Encoding;
      readonly bytes: Uint8Array<ArrayBuffer>;
    }
  | { readonly kind: "download"; readonly weight: Weight }
  /** Lays a weight row by row that lay in blocks of rows, in its place. */
  | { readonly kind: "unblock"; readonly weight: Weight }
  | { readonly kind: "grow"; readonly end: number }
  | { readonly kind: "clear"; readonly address: number; readonly length: number }
  | { readonly kind: "write"; readonly address: number; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: "read"; readonly address: number; readonly length: number }
  | {
      readonly kind: "run";
      readonly writes: readonly { readonly address: number; readonly bytes: Uint8Array<ArrayBuffer> }[];
      readonly read: { readonly address: number; readonly length: number };
    };

export type Reply = {
  readonly id: number;
  readonly error?: { readonly name: string; readonly message: string };
  /** What a download, a read or a run gives; for an upload, the memory that came with it. */
  readonly bytes?: Uint8Array<ArrayBuffer>;
};

const PAGE = 65_536;
/** 4 GiB, the reach of a 32-bit address. */
const MAX_PAGES = 65_536;

type Kernels = {
  readonly run: () => void;
  readonly follow: (thread: number, seen: number, grown: number) => number;
};

export type Host = { readonly answer: (id: number, request: Request) => Reply };

/** Instantiates the kernels. A follower stays inside until the leader quits, and then returns undefined. */
export function startHost(start: StartMessage): Host | undefined {
  const memory = start.memory ?? new WebAssembly.Memory({ initial: 1, maximum: MAX_PAGES });
  const instance = new WebAssembly.Instance(start.module, { env: { memory } });
  const kernels = instance.exports as unknown as Kernels;
  if (start.thread > 0) {
    follow(kernels, memory, start.thread);
    return undefined;
  }
  return {
    answer(id, request) {
      try {
        return { id, ...carryOut(kernels, memory, request) };
      } catch (error) {
        const { name, message } = error as Error;
        return { id, error: { name, message } };
      }
    },
  };
}

/** Stays inside the kernels until the leader quits, but for a moment whenever memory has grown. */
function follow(kernels: Kernels, memory: WebAssembly.Memory, thread: number): void {
  let seen = 0;
  for (;;) {
    // By no pages: an engine may else not tell a thread that is busy what another has added (V8 once did not).
    memory.grow(0);
    const words = new Int32Array(memory.buffer, 0, HEADER_BYTES / 4);
    if (Atomics.load(words, header.quit / 4)) return;
    seen = kernels.follow(thread, seen, Atomics.load(words, header.grown / 4));
  }
}

function carryOut(kernels: Kernels, linear: WebAssembly.Memory, request: Request): Omit<Reply, "id"> {
  const memory = new Uint8Array(linear.buffer); // made anew: memory may have grown
  switch (request.kind) {
    case "grow":
      growTo(request.end, linear);
      return {};
    case "clear":
      memory.fill(0, request.address, request.address + request.length);
      return {};
    case "unblock":
      memory.set(new Uint8Array(valuesOf(memory, request.weight).buffer), request.weight.address);
      return {};
    case "upload": {
      const { weight, rowStart, rowCount, encoding, bytes } = request;
      const { address, dtype, rows, cols } = weight;
      if (weight.isBlocked) {
        const target = memory.subarray(address, address + packedBytes(dtype, rows, cols));
        packRows(dtype, encoding, bytes, { rows, cols, start: rowStart, count: rowCount }, target);
      } else {
        decodeBlocks(encoding, bytes, new Float32Array(memory.buffer, address + rowStart * cols * 4, rowCount * cols));
      }
      return { bytes };
    }
    case "download":
      return { bytes: new Uint8Array(valuesOf(memory, request.weight).buffer) };
    case "write":
      memory.set(request.bytes, request.address);
      return {};
    case "read":
      return { bytes: memory.slice(request.address, request.address + request.length) as Uint8Array<ArrayBuffer> };
    case "run": {
      for (const { address, bytes } of request.writes) memory.set(bytes, address);
      kernels.run();
      const { address, length } = request.read;
      return { bytes: memory.slice(address, address + length) as Uint8Array<ArrayBuffer> };
    }
  }
}

/** All rows of a weight in f32, one after the other. */
function valuesOf(memory: Uint8Array, { address, dtype, rows, cols, isBlocked }: Weight): Float32Array<ArrayBuffer> {
  const values = new Float32Array(rows * cols);
  if (isBlocked) {
    unpackRows(dtype, memory.subarray(address, address + packedBytes(dtype, rows, cols)), rows, cols, values);
  } else {
    values.set(new Float32Array(memory.buffer, address, values.length));
  }
  return values;
}

function growTo(end: number, memory: WebAssembly.Memory): void {
  const pages = Math.ceil((end - memory.buffer.byteLength) / PAGE);
  if (pages <= 0) return;
  try {
    memory.grow(pages);
    Atomics.add(new Int32Array(memory.buffer, 0, HEADER_BYTES / 4), header.grown / 4, 1);
  } catch {
    throw new Error(
      `${(end / 2 ** 30).toFixed(1)} GiB were needed and not to be had. Use a smaller dtype or contextLength.`,
    );
  }
}
