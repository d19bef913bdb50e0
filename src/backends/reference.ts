/** The reference backend: carries out a program by calling the oracles, one operation after the other, in this thread. */
import { BackendError, invariant } from "../errors.ts";
import type { Floats } from "../kernels/floats.ts";
import { type Operation, resultOf, tensorsOf } from "../kernels/operation.ts";
import { fuseSums } from "../program/fuse-sums.ts";
import { checkNumbers, type Program } from "../program/program.ts";
import { bytesOf } from "../tensor/bytes.ts";
import { packedBytes } from "../tensor/dtype.ts";
import { packRows } from "../tensor/pack.ts";
import { isLasting, type Limits, maxRows, type RunNumbers, rowsIn, type Tensor } from "../tensor/tensor.ts";
import { unpackRows } from "../tensor/unpack.ts";
import {
  type Backend,
  type Machine,
  type MemoryReport,
  type PreparedProgram,
  type ReplayOptions,
  sumByClass,
} from "./backend.ts";
import { createLine } from "./in-turn.ts";

const MAX_BLOCKED_MS = 20;

type Values = Float32Array | Int32Array;

export function createReferenceBackend(): Backend {
  return { device: "reference", open: async () => createMachine() };
}

/** A program with what it has for itself. */
type Resident = { readonly program: Program; readonly own: Map<Tensor, Values> };

function createMachine(): Machine {
  const lasting = new Map<Tensor, Values>();
  const residents = new Set<Resident>();
  const inTurn = createLine();
  let isDisposed = false;

  function mustLive(): void {
    if (isDisposed) throw new BackendError("reference: the model has been disposed of. Load it again.");
  }

  function valuesIn(resident: Resident | undefined, tensor: Tensor): Values {
    mustLive();
    const values = resident?.own.get(tensor) ?? lasting.get(tensor);
    invariant(values, `${tensor.name} is in no program`);
    return values;
  }

  function valuesOf(tensor: Tensor): Values {
    return valuesIn(
      [...residents].find(({ own }) => own.has(tensor)),
      tensor,
    );
  }

  function f32(tensor: Tensor): Float32Array {
    const values = valuesOf(tensor);
    invariant(values instanceof Float32Array, `${tensor.name} holds no floats`);
    return values;
  }

  function prepare(program: Program): PreparedProgram {
    mustLive();
    const operations = fuseSums(program);
    const own = new Map<Tensor, Values>();
    for (const tensor of tensorsOf(operations)) {
      if (isLasting(tensor) && !lasting.has(tensor)) lasting.set(tensor, allocate(tensor, program.limits));
      if (!isLasting(tensor)) own.set(tensor, allocate(tensor, program.limits));
    }
    const resident = { program, own };
    residents.add(resident);
    return {
      run: (numbers, options = {}) => inTurn(() => replay(resident, operations, numbers, options)),
      release: () => inTurn(async () => release(resident)),
    };
  }

  async function replay(
    resident: Resident,
    operations: readonly Operation[],
    numbers: RunNumbers,
    { inputs = [], output, signal }: ReplayOptions,
  ): Promise<Uint8Array> {
    signal?.throwIfAborted();
    mustLive();
    invariant(residents.has(resident), "a released program can't run");
    checkNumbers(numbers, resident.program.limits);
    const valuesHere = (tensor: Tensor): Values => valuesIn(resident, tensor);
    for (const { tensor, bytes, offset = 0 } of inputs) bytesOf(valuesHere(tensor)).set(bytes, offset);
    let rested = performance.now();
    for (const operation of operations) {
      if (performance.now() - rested > MAX_BLOCKED_MS) {
        await new Promise((resume) => setTimeout(resume)); // timers, input and aborts get their turn
        rested = performance.now();
      }
      signal?.throwIfAborted();
      carryOut(operation, numbers, valuesHere);
    }
    return output ? bytesOf(valuesHere(output.tensor)).slice(0, output.length) : new Uint8Array(0);
  }

  function release(resident: Resident): void {
    residents.delete(resident);
    const named = new Set([...residents].flatMap(({ program }) => tensorsOf(program.operations)));
    for (const tensor of lasting.keys()) if (!named.has(tensor)) lasting.delete(tensor);
  }

  return {
    device: "reference",
    description: "reference (f64 sums, 1 thread)",
    threads: 1,
    uploadStep: 1,
    get memory() {
      return reportMemory([lasting, ...Array.from(residents, ({ own }) => own)]);
    },
    prepare: (program) => inTurn(async () => prepare(program)),
    upload: (tensor, rowStart, rowCount, encoding, source) =>
      inTurn(async () => {
        const { dtype, cols } = tensor;
        invariant(dtype !== "i32", `${tensor.name} is no weight`);
        // Through the packed layout and back, so that a quantized weight has the values that the kernels see.
        const packed = new Uint8Array(packedBytes(dtype, rowCount, cols));
        packRows(dtype, encoding, source, { rows: rowCount, cols, start: 0, count: rowCount }, packed);
        unpackRows(dtype, packed, rowCount, cols, f32(tensor).subarray(rowStart * cols, (rowStart + rowCount) * cols));
        return source;
      }),
    download: (tensor) => inTurn(async () => f32(tensor).slice()),
    write: (tensor, offset, source) => inTurn(async () => bytesOf(valuesOf(tensor)).set(source, offset)),
    read: (tensor, offset, length) => inTurn(async () => bytesOf(valuesOf(tensor)).slice(offset, offset + length)),
    async dispose() {
      isDisposed = true;
      lasting.clear();
      residents.clear();
    },
  };
}

function allocate(tensor: Tensor, limits: Limits): Values {
  const length = maxRows(tensor, limits) * tensor.cols;
  if (tensor.dtype === "i32") return new Int32Array(length);
  return tensor.values?.slice() ?? new Float32Array(length);
}

/** Calls the oracle of an operation over values in f32, or in f64. */
export function carryOut(
  { op, operands, settings }: Operation,
  numbers: RunNumbers,
  valuesOf: (tensor: Tensor) => Floats | Int32Array,
): void {
  const values = Object.entries(operands).map(([name, tensor]) => [name, tensor && valuesOf(tensor)]);
  op.oracle(Object.fromEntries(values) as Parameters<typeof op.oracle>[0], {
    rows: rowsIn(resultOf({ op, operands, settings }), numbers),
    rowsOf: (tensor) => rowsIn(tensor, numbers),
    numbers: { length: numbers.tokens, ...numbers },
    of: operands as Parameters<typeof op.oracle>[1]["of"],
    settings,
  });
}

function reportMemory(all: readonly ReadonlyMap<Tensor, Values>[]): MemoryReport {
  const bytes = sumByClass(
    all.flatMap((values) => Array.from(values, ([tensor, { byteLength }]) => [tensor, byteLength])),
  );
  return { ...bytes, program: 0, total: Object.values(bytes).reduce((sum, count) => sum + count, 0) };
}
