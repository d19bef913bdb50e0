/**
 * A machine of the WebAssembly backend: what lasts in its memory, the programs prepared over it, and one replay at a time. Preparing or
 * releasing a program, or training a weight that lay in blocks, lays out commands and arena anew.
 */
import { BackendError, invariant } from "../../errors.ts";
import { forms } from "../../kernels/kernel.ts";
import { tensorsOf } from "../../kernels/operation.ts";
import { alignUp, type MemoryPlan, planMemory } from "../../program/memory-plan.ts";
import { checkNumbers, type Program } from "../../program/program.ts";
import { ROW_BLOCK } from "../../tensor/dtype.ts";
import { isLasting, type Limits, maxRows, type RunNumbers, type Tensor } from "../../tensor/tensor.ts";
import { type Machine, memoryClass, type MemoryReport, type PreparedProgram, type ReplayOptions } from "../backend.ts";
import { createLine } from "../in-turn.ts";
import { encodeCommands } from "./compile.ts";
import type { Weight } from "./host.ts";
import { header, HEADER_BYTES } from "./header.ts";
import { COMMAND_WORDS } from "./layout.ts";
import type { Leader } from "./leader.ts";
import { type Command, formOf, lowerProgram, tensorBytes } from "./lower.ts";
import { createHeap, type Space } from "./memory.ts";

/** A program with its commands, and where they lie. */
type Resident = {
  readonly program: Program;
  commands: readonly Command[];
  plan: MemoryPlan;
  commandsAt: number;
};

type Lowered = Pick<Resident, "commands" | "plan"> & { readonly needRows: ReadonlySet<Tensor> };
type Lasting = Space & { readonly limits: Limits };

export function createMachine(leader: Leader, threads: number, description: string): Machine {
  const heap = createHeap();
  const lasting = new Map<Tensor, Lasting>();
  const trained = new Set<Tensor>();
  const residents = new Set<Resident>();
  let arenaAt = HEADER_BYTES;
  let totalBytes = HEADER_BYTES;
  let scratch = { at: HEADER_BYTES, bytes: 0 };
  let replays = 0;
  const inTurn = createLine();

  function limitsOf(tensor: Tensor): Limits {
    return lasting.get(tensor)?.limits ?? [...residents].find(({ plan }) => plan.offset.has(tensor))!.program.limits;
  }

  /** Where a tensor of one program lies. */
  function placeIn({ plan }: Pick<Resident, "plan">, tensor: Tensor): number {
    const offset = plan.offset.get(tensor);
    const address = lasting.get(tensor)?.start ?? (offset === undefined ? undefined : arenaAt + offset);
    invariant(address !== undefined, `${tensor.name} is not in this program`);
    return address;
  }

  function addressOf(tensor: Tensor): number {
    const owner = [...residents].find(({ plan }) => plan.offset.has(tensor));
    return placeIn(owner ?? { plan: { offset: new Map(), bytes: 0 } }, tensor);
  }

  function weightOf(tensor: Tensor): Weight {
    const { dtype, cols } = tensor;
    invariant(dtype !== "i32", `${tensor.name} is no weight`);
    const isBlocked = formOf(tensor, trained) !== forms.rows;
    return { address: addressOf(tensor), dtype, isBlocked, rows: maxRows(tensor, limitsOf(tensor)), cols };
  }

  /** @param rowByRow weights that lie so. */
  function lower(program: Program, rowByRow: ReadonlySet<Tensor>): Lowered {
    const { commands, needRows } = lowerProgram(program, (tensor) => formOf(tensor, rowByRow));
    return { commands, needRows, plan: planMemory(commands, (tensor) => tensorBytes(tensor, program.limits)) };
  }

  /** Where scratch, commands and arena would lie behind `end`. */
  function layBehind(end: number, programs: readonly Pick<Resident, "commands" | "plan">[]) {
    const bytes = alignUp(largest(programs.flatMap(({ commands }) => commands.map((each) => each.scratchBytes))));
    const commandsAt: number[] = [];
    let at = end + threads * bytes;
    for (const { commands } of programs) {
      commandsAt.push(at);
      at = alignUp(at + commands.length * COMMAND_WORDS * 4);
    }
    return {
      scratch: { at: end, bytes },
      commandsAt,
      arenaAt: at,
      end: at + largest(programs.map(({ plan }) => plan.bytes)),
    };
  }

  /** Lays out what is not lasting for all residents, and writes their commands. */
  async function layOut(): Promise<void> {
    const programs = [...residents];
    const laid = layBehind(heap.end, programs);
    await leader.grow(laid.end);
    totalBytes = laid.end;
    ({ arenaAt, scratch } = laid);
    heap.touch(laid.end);
    const fixed = Int32Array.of(threads, scratch.at, scratch.bytes);
    await leader.write(header.threads, bytesOf(fixed));
    for (const [index, resident] of programs.entries()) {
      resident.commandsAt = laid.commandsAt[index]!;
      const { limits } = resident.program;
      const words = encodeCommands(resident.commands, {
        addressOf: (tensor) => placeIn(resident, tensor),
        bytesOf: (tensor) => tensorBytes(tensor, lasting.get(tensor)?.limits ?? limits),
      });
      await leader.write(resident.commandsAt, bytesOf(words));
    }
  }

  async function allocate(tensor: Tensor, limits: Limits): Promise<void> {
    const { touched } = heap;
    const space = heap.take(tensorBytes(tensor, limits));
    lasting.set(tensor, { ...space, limits });
    const dirty = Math.min(space.start + space.bytes, touched) - space.start;
    if (dirty > 0) await leader.clear(space.start, dirty);
    if (tensor.values) await leader.write(space.start, bytesOf(tensor.values));
  }

  async function prepare(program: Program): Promise<Resident> {
    const fresh = tensorsOf(program.operations).filter((tensor) => isLasting(tensor) && !lasting.has(tensor));
    const first = lower(program, trained);
    const toLay = [...first.needRows].filter((tensor) => tensor.kind === "weight" && !trained.has(tensor));
    const blocked = toLay.find(({ dtype }) => dtype !== "f32");
    if (blocked) {
      const { name, dtype } = blocked;
      throw new BackendError(`wasm: ${name} must be in f32 to be trained, got ${dtype}. Load it in f32.`);
    }
    // As all programs will be, once these weights lie row by row.
    const trainedThen = new Set([...trained, ...toLay]);
    const laterOf = (of: Program): Lowered => lower(of, trainedThen);
    const earlier = [...residents].map((resident) => (toLay.length > 0 ? laterOf(resident.program) : resident));
    const { commands, plan } = toLay.length > 0 ? laterOf(program) : first;
    const more = fresh.reduce((sum, tensor) => sum + alignUp(tensorBytes(tensor, program.limits)), 0);
    const { end } = layBehind(heap.end + more, [...earlier, { commands, plan }]);
    refuseTooMuch(end);
    await leader.grow(end); // before anything changes

    for (const tensor of fresh) await allocate(tensor, program.limits);
    for (const tensor of toLay) {
      const weight = weightOf(tensor);
      trained.add(tensor);
      if (weight.isBlocked) await leader.ask({ kind: "unblock", weight });
    }
    [...residents].forEach((resident, index) => {
      resident.commands = earlier[index]!.commands;
      resident.plan = earlier[index]!.plan;
    });
    const resident: Resident = { program, commands, plan, commandsAt: 0 };
    residents.add(resident);
    await layOut();
    return resident;
  }

  async function release(resident: Resident): Promise<void> {
    if (!residents.delete(resident)) return;
    const named = new Set([...residents].flatMap(({ program }) => tensorsOf(program.operations)));
    for (const [tensor, space] of lasting) {
      if (named.has(tensor)) continue;
      heap.give(space);
      lasting.delete(tensor);
      trained.delete(tensor);
    }
    await layOut();
  }

  async function replay(resident: Resident, numbers: RunNumbers, options: ReplayOptions): Promise<Uint8Array> {
    const { inputs = [], output, signal } = options;
    signal?.throwIfAborted();
    invariant(residents.has(resident), "a released program can't run");
    const { tokens, position, outputs, length = tokens } = numbers;
    checkNumbers(numbers, resident.program.limits);
    const number = ++replays & 0x7fffffff || (replays = 1);
    const fixed = Int32Array.of(
      number,
      tokens,
      position,
      outputs,
      length,
      resident.commandsAt,
      resident.commands.length,
    );
    const cancel = (): void => leader.cancel(number);
    signal?.addEventListener("abort", cancel);
    try {
      const reply = await leader.ask({
        kind: "run",
        writes: [
          { address: header.number, bytes: new Uint8Array(fixed.buffer) },
          ...inputs.map(({ tensor, bytes, offset = 0 }) => ({
            address: placeIn(resident, tensor) + offset,
            bytes: new Uint8Array(bytes),
          })),
        ],
        read: output ? { address: placeIn(resident, output.tensor), length: output.length } : { address: 0, length: 0 },
      });
      signal?.throwIfAborted();
      return reply.bytes!;
    } finally {
      signal?.removeEventListener("abort", cancel);
    }
  }

  function report(): MemoryReport {
    const bytes = { weights: 0, constants: 0, cache: 0, gradients: 0, moments: 0, activations: 0 };
    for (const [tensor, { bytes: count }] of lasting) bytes[memoryClass(tensor)] += count;
    bytes.activations += largest([...residents].map(({ plan }) => plan.bytes));
    const planned = Object.values(bytes).reduce((sum, count) => sum + count, 0);
    return { ...bytes, program: totalBytes - planned, total: totalBytes };
  }

  return {
    device: "wasm",
    description,
    threads,
    uploadStep: ROW_BLOCK,
    get memory() {
      return report();
    },
    async prepare(program): Promise<PreparedProgram> {
      const resident = await inTurn(() => prepare(program));
      return {
        run: (numbers, options = {}) => inTurn(() => replay(resident, numbers, options)),
        release: () => inTurn(() => release(resident)),
      };
    },
    upload: (tensor, rowStart, rowCount, encoding, bytes) =>
      inTurn(async () => {
        const request = { kind: "upload", weight: weightOf(tensor), rowStart, rowCount, encoding, bytes } as const;
        return (await leader.ask(request, [bytes.buffer])).bytes!;
      }),
    download: (tensor) =>
      inTurn(async () => {
        const { buffer, byteOffset, byteLength } = (await leader.ask({ kind: "download", weight: weightOf(tensor) }))
          .bytes!;
        return new Float32Array(buffer, byteOffset, byteLength / 4);
      }),
    write: (tensor, offset, bytes) => inTurn(() => leader.write(addressOf(tensor) + offset, bytes)),
    read: (tensor, offset, length) =>
      inTurn(async () => (await leader.ask({ kind: "read", address: addressOf(tensor) + offset, length })).bytes!),
    dispose: () => leader.dispose(),
  };
}

function largest(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => Math.max(a, b), 0);
}

const MAX_BYTES = 2 ** 32; // the reach of a 32-bit address

function refuseTooMuch(bytes: number): void {
  if (bytes <= MAX_BYTES) return;
  throw new BackendError(
    `wasm: the model needs ${formatGiB(bytes)}, a 32-bit memory holds 4.0 GiB. ` +
      `Use a smaller dtype ("q8" or "q4") or contextLength.`,
  );
}

export function formatGiB(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

function bytesOf(array: Int32Array | Float32Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}
