/**
 * The WebAssembly backend: one linear memory that grows as programs are prepared, workers that walk their commands, and a leader among
 * them that is asked. The calling thread never blocks; where memory is shared it can stop a replay between two operations.
 */
import { BackendError } from "../../errors.ts";
import type { Backend, Machine } from "../backend.ts";
import { plainKernels, relaxedKernels } from "./generated/kernels.ts";
import type { StartMessage } from "./host.ts";
import { HEADER_BYTES } from "./header.ts";
import { createLeader, type WorkerPort } from "./leader.ts";
import { createMachine } from "./machine.ts";

export type { WorkerPort } from "./leader.ts";

export type WasmOptions = {
  /** Starts a worker that runs host.ts. The edge knows how: Node and browsers differ. */
  readonly spawn: () => WorkerPort;
  readonly threads: number;
  /** Whether this page or process may share memory between threads. */
  readonly canShare: boolean;
  /** Whether to take the relaxed build where the engine has relaxed SIMD. Default: true. */
  readonly relaxed?: boolean;
};

/** How far memory may grow: 4 GiB, the reach of a 32-bit address, or less where an engine does not set so much aside. */
const MAX_PAGES = [65_536, 32_768, 16_384, 8_192];

export function createWasmBackend(options: WasmOptions): Backend {
  return { device: "wasm", open: () => openMachine(options) };
}

/** The relaxed build where the engine takes it (fused multiply-add), else the plain one. */
function chooseKernels(mayRelax: boolean): { readonly bytes: Uint8Array<ArrayBuffer>; readonly isRelaxed: boolean } {
  const relaxed = fromBase64(relaxedKernels);
  if (mayRelax && WebAssembly.validate(relaxed)) return { bytes: relaxed, isRelaxed: true };
  const plain = fromBase64(plainKernels);
  if (WebAssembly.validate(plain)) return { bytes: plain, isRelaxed: false };
  throw new BackendError(
    "wasm: WebAssembly SIMD is required, and this engine lacks it. Update the browser or runtime.",
  );
}

async function openMachine({ spawn, threads, canShare, relaxed = true }: WasmOptions): Promise<Machine> {
  const count = canShare ? threads : 1;
  const { bytes, isRelaxed } = chooseKernels(relaxed);
  const module = await WebAssembly.compile(canShare ? bytes : withUnsharedMemory(bytes));
  const memory = canShare ? takeMemory() : undefined;
  const workers = Array.from({ length: count }, (_, thread) => {
    const worker = spawn();
    worker.post({ kind: "start", module, memory, thread } satisfies StartMessage, []);
    return worker;
  });
  const words = memory && new Int32Array(memory.buffer, 0, HEADER_BYTES / 4);
  const description = `wasm (${isRelaxed ? "relaxed" : "plain"} SIMD, ${count} thread${count === 1 ? "" : "s"})`;
  return createMachine(createLeader(workers, words), count, description);
}

/** One page, with room set aside to grow. */
function takeMemory(): WebAssembly.Memory {
  for (const maximum of MAX_PAGES) {
    try {
      return new WebAssembly.Memory({ initial: 1, maximum, shared: true });
    } catch (cause) {
      if (maximum !== MAX_PAGES.at(-1)) continue;
      throw new BackendError(
        "wasm: shared memory was needed and not to be had. Use { threads: 1 } or close other pages.",
        {
          cause,
        },
      );
    }
  }
  throw new Error("internal: no size of memory to try");
}

/**
 * The kernels are built for a shared memory. Where none can be shared, the import's limits flag (has a maximum, shared)
 * loses its shared bit: atomics work on either kind (WebAssembly threads proposal, "limits").
 */
function withUnsharedMemory(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const name = new TextEncoder().encode("memory");
  const at = bytes.findIndex((_, i) => name.every((byte, j) => bytes[i + j] === byte)) + name.length;
  const copy = bytes.slice();
  // kind 2 (memory), then the flag
  if (copy[at] !== 2 || copy[at + 1] !== 3) throw new Error("internal: the kernels' memory import is not where it was");
  copy[at + 1] = 1;
  return copy;
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
