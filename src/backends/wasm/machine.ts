/** A machine of the WebAssembly backend: one call at a time to the leader, over what residents.ts keeps in memory. */
import { invariant } from "../../errors.ts";
import { checkNumbers } from "../../program/program.ts";
import { ROW_BLOCK } from "../../tensor/dtype.ts";
import type { RunNumbers } from "../../tensor/tensor.ts";
import type { Machine, PreparedProgram, ReplayOptions } from "../backend.ts";
import { createLine } from "../in-turn.ts";
import { header } from "./header.ts";
import type { Leader } from "./leader.ts";
import {
  addResident,
  createMemory,
  locate,
  type Memory,
  removeResident,
  reportMemory,
  type Resident,
  weightIn,
} from "./residents.ts";

export function createMachine(leader: Leader, threads: number, description: string): Machine {
  const memory = createMemory(leader, threads);
  const inTurn = createLine();
  let replays = 0;
  return {
    device: "wasm",
    description,
    threads,
    uploadStep: ROW_BLOCK,
    get memory() {
      return reportMemory(memory);
    },
    async prepare(program): Promise<PreparedProgram> {
      const resident = await inTurn(() => addResident(memory, program));
      return {
        run: (numbers, options = {}) =>
          inTurn(() => {
            replays = (replays % 0x7fffffff) + 1;
            return replay(memory, resident, replays, numbers, options);
          }),
        release: () => inTurn(() => removeResident(memory, resident)),
      };
    },
    upload: (tensor, rowStart, rowCount, encoding, bytes) =>
      inTurn(async () => {
        const weight = weightIn(memory, tensor);
        const request = { kind: "upload", weight, rowStart, rowCount, encoding, bytes } as const;
        return (await leader.ask(request, [bytes.buffer])).bytes!;
      }),
    download: (tensor) =>
      inTurn(async () => {
        const reply = await leader.ask({ kind: "download", weight: weightIn(memory, tensor) });
        const { buffer, byteOffset, byteLength } = reply.bytes!;
        return new Float32Array(buffer, byteOffset, byteLength / 4);
      }),
    write: (tensor, offset, bytes) => inTurn(() => leader.write(locate(memory, tensor, offset, bytes.length), bytes)),
    read: (tensor, offset, length) =>
      inTurn(async () => {
        const address = locate(memory, tensor, offset, length);
        return (await leader.ask({ kind: "read", address, length })).bytes!;
      }),
    dispose: () => leader.dispose(),
  };
}

/** @param number names the replay, so that a cancel stops no other. */
async function replay(
  memory: Memory,
  resident: Resident,
  number: number,
  numbers: RunNumbers,
  { inputs = [], output, signal }: ReplayOptions,
): Promise<Uint8Array> {
  const { leader, residents } = memory;
  signal?.throwIfAborted();
  invariant(residents.has(resident), "a released program can't run");
  checkNumbers(numbers, resident.program.limits);
  const { tokens, position, outputs, length = tokens } = numbers;
  const { commandsAt, commands } = resident;
  const fixed = Int32Array.of(number, tokens, position, outputs, length, commandsAt, commands.length); // as in the header
  const writes = inputs.map(({ tensor, bytes, offset = 0 }) => ({
    address: locate(memory, tensor, offset, bytes.length, resident),
    bytes: new Uint8Array(bytes),
  }));
  const read = {
    address: output ? locate(memory, output.tensor, 0, output.length, resident) : 0,
    length: output?.length ?? 0,
  };
  const cancel = (): void => leader.cancel(number);
  signal?.addEventListener("abort", cancel);
  try {
    const ofReplay = { address: header.number, bytes: new Uint8Array(fixed.buffer) };
    const reply = await leader.ask({ kind: "run", writes: [ofReplay, ...writes], read });
    signal?.throwIfAborted();
    return reply.bytes!;
  } finally {
    signal?.removeEventListener("abort", cancel);
  }
}
