/**
 * What runs inside a worker: one instance of the kernels over the shared memory. Thread 0 (the leader) answers messages;
 * the others block inside WebAssembly and follow it.
 */
import { decodeBlocks } from "../../tensor/blocks.ts";
import { packedBytes, type Dtype } from "../../tensor/dtype.ts";
import type { Encoding } from "../../tensor/encoding.ts";
import { packRows } from "../../tensor/pack.ts";
import { unpackRows } from "../../tensor/unpack.ts";

/** Sent once to every worker. */
export type StartMessage = {
  readonly kind: "start";
  readonly module: WebAssembly.Module;
  readonly memory: WebAssembly.Memory | MemorySize;
  readonly thread: number;
};

/** The pages of a memory that the worker makes itself, where none can be shared. */
export type MemorySize = { readonly pages: number };

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
  | { readonly kind: "write"; readonly address: number; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly kind: "read"; readonly address: number; readonly length: number }
  | {
      readonly kind: "run";
      readonly writes: readonly { readonly address: number; readonly bytes: Uint8Array<ArrayBuffer> }[];
      readonly read: { readonly address: number; readonly length: number };
    }
  | { readonly kind: "quit" };

export type Reply = {
  readonly id: number;
  readonly error?: { readonly name: string; readonly message: string };
  /** Of a download, a read or a run; of an upload, the memory that came with it. */
  readonly bytes?: Uint8Array<ArrayBuffer>;
};

type Kernels = { readonly run: () => void; readonly follow: (thread: number, seen: number) => void };

export type Host = { readonly answer: (id: number, request: Request) => Reply };

/** Instantiates the kernels. A follower stays inside until the leader quits, and then returns undefined. */
export function startHost(start: StartMessage): Host | undefined {
  const memory =
    "pages" in start.memory
      ? new WebAssembly.Memory({ initial: start.memory.pages, maximum: start.memory.pages })
      : start.memory;
  const instance = new WebAssembly.Instance(start.module, { env: { memory } });
  const kernels = instance.exports as unknown as Kernels;
  if (start.thread > 0) {
    kernels.follow(start.thread, 0);
    return undefined;
  }
  const bytes = new Uint8Array(memory.buffer);
  return {
    answer(id, request) {
      try {
        return { id, ...carryOut(kernels, bytes, request) };
      } catch (error) {
        const { name, message } = error as Error;
        return { id, error: { name, message } };
      }
    },
  };
}

function carryOut(kernels: Kernels, memory: Uint8Array, request: Request): Omit<Reply, "id"> {
  switch (request.kind) {
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
    case "download": {
      const { address, dtype, rows, cols } = request.weight;
      const values = new Float32Array(rows * cols);
      if (request.weight.isBlocked) {
        unpackRows(dtype, memory.subarray(address, address + packedBytes(dtype, rows, cols)), rows, cols, values);
      } else {
        values.set(new Float32Array(memory.buffer, address, values.length));
      }
      return { bytes: new Uint8Array(values.buffer) };
    }
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
    case "quit":
      return {};
  }
}
