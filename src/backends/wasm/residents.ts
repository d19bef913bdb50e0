/**
 * What is in a machine's memory: tensors that last, and the programs prepared over them, each with its commands. What lasts stays where it
 * is; scratch, commands and the arena behind it are laid out anew whenever a program comes or goes.
 */
import { BackendError, invariant } from "../../errors.ts";
import { forms } from "../../kernels/kernel.ts";
import { tensorsOf } from "../../kernels/operation.ts";
import { alignUp, type MemoryPlan, planMemory } from "../../program/memory-plan.ts";
import type { Program } from "../../program/program.ts";
import { bytesOf } from "../../tensor/bytes.ts";
import { isLasting, type Limits, maxRows, type Tensor } from "../../tensor/tensor.ts";
import { type MemoryReport, sumByClass } from "../backend.ts";
import { encodeCommands } from "./compile.ts";
import { header, HEADER_BYTES } from "./header.ts";
import type { Weight } from "./host.ts";
import { COMMAND_WORDS } from "./layout.ts";
import type { Leader } from "./leader.ts";
import { type Command, formOf, type Lowered as LoweredProgram, lowerProgram, tensorBytes } from "./lower.ts";
import { createHeap, type Heap, type Space } from "./memory.ts";

/** A program with its commands, and where they lie. */
export type Resident = Lowered & { readonly program: Program; commandsAt: number };

type Lowered = { commands: readonly Command[]; plan: MemoryPlan };

export type Memory = {
  readonly leader: Leader;
  readonly threads: number;
  readonly heap: Heap;
  readonly lasting: Map<Tensor, Space & { readonly limits: Limits }>;
  /** Weights that lie row by row. */
  readonly trained: Set<Tensor>;
  readonly residents: Set<Resident>;
  arenaAt: number;
  /** All that is in use. */
  end: number;
};

export function createMemory(leader: Leader, threads: number): Memory {
  const fresh = { heap: createHeap(), lasting: new Map(), trained: new Set<Tensor>(), residents: new Set<Resident>() };
  return { leader, threads, ...fresh, arenaAt: HEADER_BYTES, end: HEADER_BYTES };
}

/** Where `length` bytes from byte `offset` on of a tensor lie, for one program or for whichever names it. */
export function locate(memory: Memory, tensor: Tensor, offset: number, length: number, resident?: Resident): number {
  const owner = resident ?? ownerOf(memory, tensor);
  const lasting = memory.lasting.get(tensor);
  const inArena = owner?.plan.offset.get(tensor);
  const start = lasting?.start ?? (inArena === undefined ? undefined : memory.arenaAt + inArena);
  const limits = lasting?.limits ?? owner?.program.limits;
  invariant(start !== undefined && limits, `${tensor.name} is not in this program`);
  const bytes = tensorBytes(tensor, limits);
  invariant(offset + length <= bytes, `${tensor.name} has ${bytes} bytes, not ${offset + length}`);
  return start + offset;
}

function ownerOf({ residents }: Memory, tensor: Tensor): Resident | undefined {
  return [...residents].find(({ plan }) => plan.offset.has(tensor));
}

/** A weight, and how it lies. */
export function weightIn(memory: Memory, tensor: Tensor): Weight {
  const { dtype, cols } = tensor;
  const limits = memory.lasting.get(tensor)?.limits;
  invariant(dtype !== "i32" && limits, `${tensor.name} is no weight`);
  const isBlocked = formOf(tensor, memory.trained) !== forms.rows;
  return { address: locate(memory, tensor, 0, 0), dtype, isBlocked, rows: maxRows(tensor, limits), cols };
}

/**
 * Prepares a program: takes memory for what it needs besides what is there, and has the weights that it trains lie row by row.
 * @throws {BackendError} before anything changes, if memory has no room for it.
 */
export async function addResident(memory: Memory, program: Program): Promise<Resident> {
  const { leader, trained, residents } = memory;
  const fresh = tensorsOf(program.operations).filter((tensor) => isLasting(tensor) && !memory.lasting.has(tensor));
  const asTheyLie = lower(program, trained);
  const toLay = [...asTheyLie.needRows].filter((tensor) => tensor.kind === "weight" && !trained.has(tensor));
  const other = toLay.find(({ dtype }) => dtype !== "f32");
  if (other) {
    throw new BackendError(`wasm: ${other.name} must be in f32 to be trained, got ${other.dtype}. Load it in f32.`);
  }
  // All programs, the earlier ones too, as they will be once these weights lie row by row.
  const rowByRow = new Set([...trained, ...toLay]);
  const isRelaid = toLay.length > 0;
  const earlier = [...residents].map((resident) => (isRelaid ? lower(resident.program, rowByRow) : resident));
  const { commands, plan } = isRelaid ? lower(program, rowByRow) : asTheyLie;
  const more = fresh.reduce((sum, tensor) => sum + alignUp(tensorBytes(tensor, program.limits)), 0);
  const { end } = layBehind(memory.heap.end + more, memory.threads, [...earlier, { commands, plan }]);
  refuseTooMuch(end);
  await leader.grow(end); // before anything changes

  for (const tensor of fresh) await allocate(memory, tensor, program.limits);
  for (const tensor of toLay) {
    const weight = weightIn(memory, tensor);
    trained.add(tensor);
    if (weight.isBlocked) await leader.ask({ kind: "unblock", weight });
  }
  [...residents].forEach((resident, index) => {
    resident.commands = earlier[index]!.commands;
    resident.plan = earlier[index]!.plan;
  });
  const resident = { program, commands, plan, commandsAt: 0 };
  residents.add(resident);
  await layOut(memory);
  return resident;
}

/** Gives up a program, and what no other names. */
export async function removeResident(memory: Memory, resident: Resident): Promise<void> {
  const { residents, lasting, heap, trained } = memory;
  if (!residents.delete(resident)) return;
  const named = new Set([...residents].flatMap(({ program }) => tensorsOf(program.operations)));
  for (const [tensor, space] of lasting) {
    if (named.has(tensor)) continue;
    heap.give(space);
    lasting.delete(tensor);
    trained.delete(tensor);
  }
  await layOut(memory);
}

/** Bytes by class. */
export function reportMemory({ lasting, residents, end }: Memory): MemoryReport {
  const kept = sumByClass(Array.from(lasting, ([tensor, { bytes }]) => [tensor, bytes]));
  const bytes = { ...kept, activations: kept.activations + largest([...residents].map(({ plan }) => plan.bytes)) };
  const planned = Object.values(bytes).reduce((sum, count) => sum + count, 0);
  return { ...bytes, program: end - planned, total: end };
}

/** @param rowByRow weights that lie so. */
function lower(program: Program, rowByRow: ReadonlySet<Tensor>): Lowered & Pick<LoweredProgram, "needRows"> {
  const { commands, needRows } = lowerProgram(program, (tensor) => formOf(tensor, rowByRow));
  return { commands, needRows, plan: planMemory(commands, (tensor) => tensorBytes(tensor, program.limits)) };
}

/** Where scratch, commands and arena would lie behind `start`. */
function layBehind(start: number, threads: number, programs: readonly Lowered[]) {
  const scratchBytes = alignUp(largest(programs.flatMap(({ commands }) => commands.map((each) => each.scratchBytes))));
  const commandsAt: number[] = [];
  let at = start + threads * scratchBytes;
  for (const { commands } of programs) {
    commandsAt.push(at);
    at = alignUp(at + commands.length * COMMAND_WORDS * 4);
  }
  return { scratchBytes, commandsAt, arenaAt: at, end: at + largest(programs.map(({ plan }) => plan.bytes)) };
}

/** Lays out what does not last, for all programs, and writes their commands. */
async function layOut(memory: Memory): Promise<void> {
  const { leader, threads, heap, residents, lasting } = memory;
  const laid = layBehind(heap.end, threads, [...residents]);
  await leader.grow(laid.end);
  heap.touch(laid.end);
  memory.arenaAt = laid.arenaAt;
  memory.end = laid.end;
  await leader.write(header.threads, bytesOf(Int32Array.of(threads, heap.end, laid.scratchBytes)));
  for (const [index, resident] of [...residents].entries()) {
    resident.commandsAt = laid.commandsAt[index]!;
    const words = encodeCommands(resident.commands, {
      addressOf: (tensor) => locate(memory, tensor, 0, 0, resident),
      bytesOf: (tensor) => tensorBytes(tensor, lasting.get(tensor)?.limits ?? resident.program.limits),
    });
    await leader.write(resident.commandsAt, bytesOf(words));
  }
}

/** Zeros, or the values of a constant. */
async function allocate({ leader, heap, lasting }: Memory, tensor: Tensor, limits: Limits): Promise<void> {
  const { touched } = heap;
  const space = heap.take(tensorBytes(tensor, limits));
  lasting.set(tensor, { ...space, limits });
  const dirty = Math.min(space.start + space.bytes, touched) - space.start;
  if (dirty > 0) await leader.clear(space.start, dirty);
  if (tensor.values) await leader.write(space.start, bytesOf(tensor.values));
}

const MAX_BYTES = 2 ** 32; // the reach of a 32-bit address

function refuseTooMuch(bytes: number): void {
  if (bytes <= MAX_BYTES) return;
  throw new BackendError(
    `wasm: the model needs ${(bytes / 2 ** 30).toFixed(1)} GiB, a 32-bit memory holds 4.0 GiB. ` +
      `Use a smaller dtype ("q8" or "q4") or contextLength.`,
  );
}

function largest(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => Math.max(a, b), 0);
}
