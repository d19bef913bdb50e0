/**
 * The WebAssembly backend: plans one linear memory, starts the workers, and passes requests to the leader. The calling
 * thread never blocks; where memory is shared it can stop a run between two operations.
 */
import { BackendError, FormatError } from "../../errors.ts";
import type { Tensor } from "../../program/operation.ts";
import { maxRows, type Program } from "../../program/program.ts";
import type { Backend, Machine, MemoryReport } from "../backend.ts";
import { compileProgram, type CompiledProgram } from "./compile.ts";
import { plainKernels, relaxedKernels } from "./generated/kernels.ts";
import type { Reply, Request, StartMessage, Weight } from "./host.ts";
import { COMMAND_WORDS, header, HEADER_BYTES } from "./layout.ts";

/** A worker, whichever runtime made it. */
export type WorkerPort = {
  post(message: unknown, transfer: ArrayBuffer[]): void;
  onMessage(listener: (reply: Reply) => void): void;
  onError(listener: (error: Error) => void): void;
  terminate(): Promise<void>;
};

export type WasmOptions = {
  /** Starts a worker that runs host.ts. The edge knows how: Node and browsers differ. */
  readonly spawn: () => WorkerPort;
  readonly threads: number;
  /** Whether this page or process may share memory between threads. */
  readonly canShare: boolean;
  /** Whether to take the relaxed build where the engine has relaxed SIMD. Default: true. */
  readonly relaxed?: boolean;
};

const PAGE = 65536;
const MAX_PAGES = 65536; // 4 GiB, the reach of a 32-bit address

export function createWasmBackend(options: WasmOptions): Backend {
  return { device: "wasm", open: (program) => openMachine(program, options) };
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

async function openMachine(
  program: Program,
  { spawn, threads, canShare, relaxed = true }: WasmOptions,
): Promise<Machine> {
  const count = canShare ? threads : 1;
  const compiled = compileProgram(program, count);
  const pages = Math.ceil(compiled.totalBytes / PAGE);
  if (pages > MAX_PAGES) {
    throw new BackendError(
      `wasm: the model needs ${formatBytes(compiled.totalBytes)}, a 32-bit memory holds 4.0 GiB. ` +
        `Use a smaller dtype ("q8" or "q4") or contextLength.`,
    );
  }
  const { bytes, isRelaxed } = chooseKernels(relaxed);
  const module = await WebAssembly.compile(canShare ? bytes : withUnsharedMemory(bytes));
  const memory = canShare ? takeMemory(pages, compiled) : { pages };
  const workers: WorkerPort[] = [];
  for (let thread = 0; thread < count; thread++) {
    const worker = spawn();
    worker.post({ kind: "start", module, memory, thread } satisfies StartMessage, []);
    workers.push(worker);
  }
  const machine = createMachine({
    program,
    compiled,
    workers,
    words: memory instanceof WebAssembly.Memory ? new Int32Array(memory.buffer, 0, HEADER_BYTES / 4) : undefined,
    description: `wasm (${isRelaxed ? "relaxed" : "plain"} SIMD, ${count} thread${count === 1 ? "" : "s"})`,
  });
  await machine.prepare();
  return machine;
}

function takeMemory(pages: number, compiled: CompiledProgram): WebAssembly.Memory {
  try {
    return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (cause) {
    throw new BackendError(
      `wasm: ${formatBytes(compiled.totalBytes)} were needed and not to be had. Use a smaller dtype or contextLength.`,
      { cause },
    );
  }
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

type Parts = {
  readonly program: Program;
  readonly compiled: CompiledProgram;
  readonly workers: readonly WorkerPort[];
  /** The header, where memory is shared. */
  readonly words: Int32Array | undefined;
  readonly description: string;
};

function createMachine({
  program,
  compiled,
  workers,
  words,
  description,
}: Parts): Machine & { prepare(): Promise<void> } {
  const leader = workers[0]!;
  const waiting = new Map<number, { resolve: (reply: Reply) => void; reject: (error: Error) => void }>();
  let nextId = 0;
  let failure: Error | undefined;

  const fail = (error: Error): void => {
    failure ??= error;
    for (const { reject } of waiting.values()) reject(failure);
    waiting.clear();
  };
  for (const worker of workers) {
    worker.onError((error) => fail(new BackendError(`wasm: a worker stopped: ${error.message}`, { cause: error })));
  }
  leader.onMessage((reply) => {
    const call = waiting.get(reply.id);
    waiting.delete(reply.id);
    if (reply.error) call?.reject(rebuildError(reply.error));
    else call?.resolve(reply);
  });

  async function ask(request: Request, transfer: ArrayBuffer[] = []): Promise<Reply> {
    if (failure) throw failure;
    const id = nextId++;
    return new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      leader.post({ id, request }, transfer);
    });
  }

  /** A copy of its own, which can be handed over to the worker. */
  const writeAt = async (address: number, bytes: Uint8Array): Promise<void> => {
    const copy = new Uint8Array(bytes);
    await ask({ kind: "write", address, bytes: copy }, [copy.buffer]);
  };
  const addressOf = (tensor: Tensor): number => compiled.plan.address.get(tensor)!;
  const weightOf = (tensor: Tensor): Weight => {
    const { dtype, cols, isBlocked = false } = tensor;
    if (dtype === "i32" || dtype === "a16") throw new Error(`internal: ${tensor.name} is no weight`);
    return { address: addressOf(tensor), dtype, isBlocked, rows: maxRows(tensor, program.limits), cols };
  };
  const bytesOf = (array: Int32Array | Float32Array): Uint8Array =>
    new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

  const planned = Object.values(compiled.plan.bytes).reduce((sum, bytes) => sum + bytes, 0);
  const memory: MemoryReport = {
    ...compiled.plan.bytes,
    program: compiled.totalBytes - planned,
    total: compiled.totalBytes,
  };

  return {
    device: "wasm",
    description,
    threads: workers.length,
    memory,
    async prepare() {
      const fixed = new Int32Array(HEADER_BYTES / 4);
      fixed[header.threads / 4] = workers.length;
      fixed[header.scratch / 4] = compiled.scratchAt;
      fixed[header.scratchBytes / 4] = compiled.scratchBytes;
      await writeAt(0, bytesOf(fixed));
      await writeAt(compiled.commandsAt, bytesOf(compiled.commands));
      for (const [tensor, address] of compiled.plan.address) {
        if (tensor.values) await writeAt(address, bytesOf(tensor.values));
      }
    },
    async upload(tensor, rowStart, rowCount, encoding, bytes) {
      const weight = weightOf(tensor);
      const reply = await ask({ kind: "upload", weight, rowStart, rowCount, encoding, bytes }, [bytes.buffer]);
      return reply.bytes!;
    },
    async download(tensor) {
      const { buffer, byteOffset, byteLength } = (await ask({ kind: "download", weight: weightOf(tensor) })).bytes!;
      return new Float32Array(buffer, byteOffset, byteLength / 4);
    },
    write: async (tensor, offset, bytes) => writeAt(addressOf(tensor) + offset, bytes),
    async read(tensor, offset, length) {
      const reply = await ask({ kind: "read", address: addressOf(tensor) + offset, length });
      return reply.bytes!;
    },
    async run({ tokens, position, outputs, length = tokens }, { inputs = [], output, part, signal } = {}) {
      signal?.throwIfAborted();
      const { start, end } = compiled.parts.get(part)!;
      const commands = compiled.commandsAt + start * COMMAND_WORDS * 4;
      if (words) Atomics.store(words, header.cancel / 4, 0);
      const cancel = (): void => {
        if (words) Atomics.store(words, header.cancel / 4, 1);
      };
      signal?.addEventListener("abort", cancel);
      try {
        const numbers = Int32Array.of(tokens, position, outputs, length, commands, end - start); // as in the header
        const reply = await ask({
          kind: "run",
          writes: [
            { address: header.tokens, bytes: new Uint8Array(bytesOf(numbers)) },
            ...inputs.map(({ tensor, bytes, offset = 0 }) => ({
              address: addressOf(tensor) + offset,
              bytes: new Uint8Array(bytes),
            })),
          ],
          read: output ? { address: addressOf(output.tensor), length: output.length } : { address: 0, length: 0 },
        });
        signal?.throwIfAborted();
        return reply.bytes!;
      } finally {
        signal?.removeEventListener("abort", cancel);
      }
    },
    async dispose() {
      fail(new BackendError("wasm: the model has been disposed of. Load it again."));
      if (words) {
        Atomics.store(words, header.quit / 4, 1);
        Atomics.add(words, header.run / 4, 1);
        Atomics.notify(words, header.run / 4);
      }
      await Promise.all(workers.map((worker) => worker.terminate()));
    },
  };
}

function rebuildError({ name, message }: { name: string; message: string }): Error {
  return name === "FormatError" ? new FormatError(message) : new BackendError(`wasm: ${message}`);
}

function formatBytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}
