/** What every backend promises of a machine and its programs (backend.ts): one body for all. */
import { describe, expect, it, onTestFinished } from "vitest";
import {
  crowdedThreads,
  plainWasm,
  reference,
  twoThreads,
  unsharedThread,
  wasm,
} from "../../test/support/kernel-agreement.ts";
import { OPTIMIZER_SETTINGS } from "../kernels/adamw/adamw.ts";
import { cache, constant, createRecorder, ids, input, type Recorder, weight } from "../program/recorder.ts";
import type { Program } from "../program/program.ts";
import type { Limits, Tensor } from "../tensor/tensor.ts";
import { dtypes } from "../tensor/dtype.ts";
import { encodeBlocks } from "../tensor/blocks.ts";
import type { Machine, MemoryReport, PreparedProgram, ReplayOptions } from "./backend.ts";

const limits = { tokens: 4, outputs: 4, positions: 8 };
const WIDTH = 16;

const backends = [
  ["reference", reference],
  ["wasm", wasm],
  ["plain wasm", plainWasm],
  ["a thread of its own", unsharedThread],
  ["two threads that share", twoThreads],
] as const;

describe.each(backends)("a machine: %s", (name, backend) => {
  async function open(): Promise<Machine> {
    const machine = await backend.open();
    onTestFinished(() => machine.dispose());
    return machine;
  }

  describe("programs on one machine", () => {
    it("share a weight by identity, not by name", async () => {
      const machine = await open();
      const [shared, other] = [weight("w", 8, WIDTH), weight("w", 8, WIDTH)];
      const first = await prepare(machine, (r, x) => r.linear({ x, weight: shared }));
      await fill(machine, shared, 2);
      const second = await prepare(machine, (r, x) => r.relu({ x: r.linear({ x, weight: shared }) }));
      const third = await prepare(machine, (r, x) => r.linear({ x, weight: other }));
      await fill(machine, other, 3);
      for (const program of [first, second, third]) {
        expect(await program.run(filled(2 * WIDTH, 1))).toEqual(filled(2 * 8, (program === third ? 3 : 2) * WIDTH));
      }
    });

    it("share a cache, which holds what an earlier one stored", async () => {
      const machine = await open();
      const keys = cache("keys", 8, WIDTH);
      const storing = await prepare(machine, (r, x) => r.store({ cache: keys, x }));
      const rows = ids("rows", "outputs");
      const reading = await prepare(machine, (r) => r.pick({ x: keys, rows }));
      await storing.run(filled(2 * WIDTH, 5), { tokens: 2, position: 3 });
      const chosen = { tensor: rows, bytes: bytesOf(Int32Array.of(4, 2)) };
      expect(await reading.run(undefined, { tokens: 1, outputs: 2 }, [chosen])).toEqual(
        Float32Array.of(...filled(WIDTH, 5), ...filled(WIDTH, 0)),
      );
    });

    it("share a gradient, which one adds to and another clears", async () => {
      const machine = await open();
      const gradient: Tensor = { ...weight("gradient", 3, WIDTH), kind: "gradient" };
      const tokens = ids("tokens", "tokens");
      const adding = await prepare(machine, (r, dy) => r.embedBack({ dTable: gradient, tokens, dy }));
      const clearing = await prepare(machine, (r) => r.clear({ gradient }));
      const chosen = { tensor: tokens, bytes: bytesOf(Int32Array.of(1, 1)) };
      for (const sum of [14, 28]) {
        await adding.run(filled(2 * WIDTH, 7), { tokens: 2 }, [chosen]);
        expect(await floats(machine, gradient, 3 * WIDTH)).toEqual(
          Float32Array.of(...filled(WIDTH, 0), ...filled(WIDTH, sum), ...filled(WIDTH, 0)),
        );
      }
      await clearing.run();
      expect(await floats(machine, gradient, 3 * WIDTH)).toEqual(filled(3 * WIDTH, 0));
    });

    it("may name the same input, and have as many rows of it as each one's limits say", async () => {
      const machine = await open();
      const x = input("x", WIDTH);
      const small = await prepare(machine, (r) => r.add({ a: x, b: x }), { tokens: 1, outputs: 1, positions: 1 });
      const large = await prepare(machine, (r) => r.relu({ x }));
      expect(await large.run(undefined, { tokens: 4 }, [{ tensor: x, bytes: bytesOf(filled(4 * WIDTH, 6)) }])).toEqual(
        filled(4 * WIDTH, 6),
      );
      expect(await small.run(undefined, { tokens: 1 }, [{ tensor: x, bytes: bytesOf(filled(WIDTH, 7)) }])).toEqual(
        filled(WIDTH, 14),
      );
    });

    it("may be one, prepared twice", async () => {
      const machine = await open();
      const [w, x] = [weight("w", 8, WIDTH), input("x", WIDTH)];
      const r = createRecorder(limits);
      const { program, y } = r.finish({ y: r.linear({ x, weight: w }) });
      const [first, second] = [await machine.prepare(program), await machine.prepare(program)];
      await fill(machine, w, 1);
      await first.release();
      const given = { inputs: [{ tensor: x, bytes: bytesOf(filled(WIDTH, 1)) }], output: { tensor: y, length: 32 } };
      const numbers = { tokens: 1, position: 0, outputs: 0 };
      expect(floatsOf(await second.run(numbers, given))).toEqual(filled(8, WIDTH));
      await expect(first.run(numbers, given)).rejects.toThrow("internal: a released program can't run");
    });
  });

  describe("a weight that a later program trains", () => {
    it("keeps its values, gives earlier programs the same bits, and then what each step makes of it", async () => {
      const machine = await open();
      const [w, untrained] = [weight("w", 11, WIDTH), weight("untrained", 5, 11)];
      const forward = await prepare(machine, (r, x) => r.linear({ x: r.linear({ x, weight: w }), weight: untrained }));
      for (const [tensor, rows, cols] of [
        [w, 11, WIDTH],
        [untrained, 5, 11],
      ] as const) {
        const values = Float32Array.from({ length: rows * cols }, (_, i) => Math.sin(i) / 3);
        await machine.upload(tensor, 0, rows, "F32", bytesOf(values));
      }
      const x = Float32Array.from({ length: 3 * WIDTH }, (_, i) => Math.cos(i));
      const before = { bits: await forward.run(x, { tokens: 3 }), values: await machine.download(w) };

      const state = (what: "gradient" | "moment", label: string): Tensor => ({ ...w, name: label, kind: what });
      const [gradient, mean, square] = [state("gradient", "g"), state("moment", "m"), state("moment", "v")];
      const [norm, settings] = [input("norm", 2, 1), input("settings", OPTIMIZER_SETTINGS, 1)];
      const update = await prepare(machine, (r) =>
        r.adamw({ weight: w, gradient, mean, square, norm, settings, decays: 0 }),
      );
      expect(await machine.download(w)).toEqual(before.values);
      expect(await forward.run(x, { tokens: 3 })).toEqual(before.bits);

      await machine.write(gradient, 0, bytesOf(filled(11 * WIDTH, 2)));
      // keep, beta1, beta2, eps, step size, correction, 1 − beta1, 1 − beta2: a step against the gradient's sign
      const numbers = Float32Array.of(1, 1, 0, 0, 0, 0.25, 1, 1, 1, 0, 0, 0);
      await update.run(undefined, {}, [
        { tensor: norm, bytes: bytesOf(Float32Array.of(1, 1)) },
        { tensor: settings, bytes: bytesOf(numbers) },
      ]);
      const stepped = before.values.map((value) => value - 0.25);
      expect(await machine.download(w)).toEqual(stepped);
      const after = await forward.run(x, { tokens: 3 });
      expect(after).not.toEqual(before.bits);

      const fresh = await open();
      const alone = await prepare(fresh, (r, given) =>
        r.linear({ x: r.linear({ x: given, weight: w }), weight: untrained }),
      );
      await fresh.upload(w, 0, 11, "F32", bytesOf(stepped));
      await fresh.upload(untrained, 0, 5, "F32", bytesOf(await machine.download(untrained)));
      expect(after).toEqual(await alone.run(x, { tokens: 3 }));
    });

    it("takes values in pieces and in other encodings as before", async () => {
      const machine = await open();
      const [w, dy] = [weight("w", 19, 32), input("dy", 19)];
      await prepare(machine, (r) => r.linearInput({ dy, weight: w }));
      const values = Float32Array.from({ length: 19 * 32 }, (_, i) => (i % 64) - 31.5);
      const halves = encodeBlocks("F16", values, 32);
      for (const [start, count] of [
        [16, 3],
        [0, 16],
      ] as const) {
        await machine.upload(w, start, count, "F16", halves.slice(start * 64, (start + count) * 64));
      }
      expect(await machine.download(w)).toEqual(values);
    });
  });

  describe("releasing a program", () => {
    it("frees what no other one names; what comes next has its room, and sees zeros", async () => {
      const machine = await open();
      const [kept, keys] = [weight("kept", 8, WIDTH), cache("keys", 8, WIDTH)];
      const staying = await prepare(machine, (r, x) => r.linear({ x, weight: kept }));
      await fill(machine, kept, 2);
      const before = machine.memory;
      const sizes: MemoryReport[] = [];
      for (let round = 0; round < 3; round++) {
        const fresh = weight("fresh", 64, WIDTH);
        const program = await prepare(machine, (r, x) => {
          r.linear({ x, weight: kept });
          r.store({ cache: keys, x });
          return r.linear({ x, weight: fresh });
        });
        sizes.push(machine.memory);
        expect(await machine.download(fresh)).toEqual(filled(64 * WIDTH, 0));
        expect(await floats(machine, keys, 8 * WIDTH)).toEqual(filled(8 * WIDTH, 0));
        await fill(machine, fresh, 3);
        expect(await program.run(filled(WIDTH, 1))).toEqual(filled(64, 3 * WIDTH));
        expect(await floats(machine, keys, WIDTH)).toEqual(filled(WIDTH, 1));
        await program.release();
        expect(machine.memory).toEqual(before);
        expect(await staying.run(filled(WIDTH, 1))).toEqual(filled(8, 2 * WIDTH));
      }
      expect(sizes[0]!.total).toBeGreaterThan(before.total);
      expect(sizes).toEqual([sizes[0], sizes[0], sizes[0]]);
    });

    it("leaves what others name, and does nothing a second time", async () => {
      const machine = await open();
      const nothing = machine.memory;
      const w = weight("w", 8, WIDTH);
      const first = await prepare(machine, (r, x) => r.linear({ x, weight: w }));
      const second = await prepare(machine, (r, x) => r.relu({ x: r.linear({ x, weight: w }) }));
      await fill(machine, w, 4);
      await first.release();
      await first.release();
      expect(await second.run(filled(WIDTH, 1))).toEqual(filled(8, 4 * WIDTH));
      await expect(first.run(filled(WIDTH, 1))).rejects.toThrow("internal: a released program can't run");
      await second.release();
      expect(machine.memory).toEqual(nothing);
    });

    it("in the middle moves nothing that lasts", async () => {
      const machine = await open();
      const weights = [1, 2, 3, 4].map((value) => ({ value, tensor: weight("w", 8 * value, WIDTH) }));
      const programs: Prepared[] = [];
      for (const { tensor, value } of weights) {
        programs.push(await prepare(machine, (r, x) => r.linear({ x, weight: tensor })));
        await fill(machine, tensor, value);
      }
      await programs[1]!.release();
      const smaller = weight("smaller", 9, WIDTH);
      const added = await prepare(machine, (r, x) => r.linear({ x, weight: smaller }));
      await fill(machine, smaller, 7);
      await programs[2]!.release();
      for (const index of [0, 3]) {
        const { value } = weights[index]!;
        expect(await programs[index]!.run(filled(WIDTH, 1))).toEqual(filled(8 * value, value * WIDTH));
      }
      expect(await added.run(filled(WIDTH, 1))).toEqual(filled(9, 7 * WIDTH));
    });
  });

  it("reports bytes by class, which add up, as soon as a program is prepared", async () => {
    const machine = await open();
    const [w, keys] = [weight("w", 24, 32), cache("keys", 8, 32)];
    const [gradient, moment] = (["gradient", "moment"] as const).map((kind): Tensor => ({ ...w, name: kind, kind }));
    const angles = constant("angles", new Float32Array(8 * 8), 8);
    const sumsOf = ({ total, ...classes }: MemoryReport): readonly [number, number] => [
      Object.values(classes).reduce((sum, bytes) => sum + bytes, 0),
      total,
    ];
    const empty = machine.memory;
    expect(empty).toMatchObject({ weights: 0, constants: 0, cache: 0, gradients: 0, moments: 0, activations: 0 });
    const [x32, dy] = [input("x", 32), input("dy", 24)];
    await prepare(machine, (r) => {
      r.store({ cache: keys, x: r.rope({ x: x32, angles, isInverse: 0 }) });
      return r.linear({ x: x32, weight: w });
    });
    const first = machine.memory;
    expect(first).toMatchObject({ weights: 3072, constants: 256, cache: 1024, gradients: 0, moments: 0 });
    expect(first.activations).toBeGreaterThanOrEqual(4 * 4 * (32 + 24));
    await prepare(machine, (r) => {
      r.linearWeight({ dWeight: gradient!, dy, x: x32 });
      r.linearWeight({ dWeight: moment!, dy, x: x32 });
      return r.linear({ x: x32, weight: w });
    });
    const second = machine.memory;
    expect(second).toMatchObject({ weights: 3072, constants: 256, cache: 1024, gradients: 3072, moments: 3072 });
    for (const report of [empty, first, second]) {
      const [sum, total] = sumsOf(report);
      expect(sum).toBe(total);
      expect(Math.min(...Object.values(report))).toBeGreaterThanOrEqual(0);
    }
    expect(second.total).toBeGreaterThan(first.total);
  });

  it("carries calls out in the order in which they were made", async () => {
    const machine = await open();
    const keys = cache("keys", 8, WIDTH);
    const storing = await prepare(machine, (r, x) => r.store({ cache: keys, x }));
    const reading = await prepare(machine, (r) => r.add({ a: keys, b: keys }));
    const [, , first, , second, third, fourth] = await Promise.all([
      storing.run(filled(4 * WIDTH, 5), { tokens: 4 }),
      storing.run(filled(4 * WIDTH, 5), { tokens: 4, position: 4 }),
      reading.run(),
      machine.write(keys, WIDTH * 4, bytesOf(filled(7 * WIDTH, 8))),
      reading.run(),
      floats(machine, keys, 8 * WIDTH),
      storing.run(filled(WIDTH, 9)).then(() => floats(machine, keys, WIDTH)),
    ]);
    expect(first).toEqual(filled(8 * WIDTH, 10));
    expect(second).toEqual(Float32Array.of(...filled(WIDTH, 10), ...filled(7 * WIDTH, 16)));
    expect(third).toEqual(Float32Array.of(...filled(WIDTH, 5), ...filled(7 * WIDTH, 8)));
    expect(fourth).toEqual(filled(WIDTH, 9));
  });

  it.each(dtypes)("gives back a weight in %s as it was uploaded, as far as its numbers can say", async (dtype) => {
    const [rows, cols] = [19, 40];
    const w = weight("w", rows, cols, dtype);
    const values = Float32Array.from({ length: rows * cols }, (_, i) => Math.sin(i * i));
    const downloaded = async (machine: Machine): Promise<Float32Array> => {
      await prepare(machine, (r) => r.linear({ x: input("x", cols), weight: w }));
      let room = new Uint8Array(8 * cols * 4);
      for (let start = 0; start < rows; start += 8) {
        const piece = bytesOf(values.subarray(start * cols, (start + 8) * cols));
        const array = room.subarray(0, piece.length);
        array.set(piece);
        const back = await machine.upload(w, start, Math.min(8, rows - start), "F32", array);
        expect(back.length).toBe(piece.length);
        room = new Uint8Array(back.buffer);
        expect(room.length).toBe(8 * cols * 4);
      }
      return machine.download(w);
    };
    const result = await downloaded(await open());
    const steps = { f32: 0, bf16: 2 ** -8, q8: 1 / 120, q4: 1 / 6 } as const;
    for (const [i, value] of values.entries()) expect(Math.abs(result[i]! - value)).toBeLessThanOrEqual(steps[dtype]);
    expect(result).toEqual(await downloaded(await reference.open()));
  });

  it("writes and reads raw bytes from any offset on", async () => {
    const machine = await open();
    const keys = cache("keys", 8, WIDTH);
    await prepare(machine, (r, x) => r.store({ cache: keys, x }));
    await machine.write(keys, 12, Uint8Array.of(1, 2, 3, 4, 5));
    expect([...(await machine.read(keys, 11, 7))]).toEqual([0, 1, 2, 3, 4, 5, 0]);
    const bytes = await machine.read(keys, 12, 2);
    bytes.fill(9); // a copy
    expect([...(await machine.read(keys, 12, 2))]).toEqual([1, 2]);
  });

  it("refuses everything once it is disposed of, and what waits for its turn", async () => {
    const machine = await backend.open();
    const w = weight("w", 8, WIDTH);
    const program = await prepare(machine, (r, x) => r.linear({ x, weight: w }));
    const calls = (): Promise<PromiseSettledResult<unknown>[]> =>
      Promise.allSettled([
        program.run(filled(WIDTH, 1)),
        program.run(filled(WIDTH, 2)),
        machine.download(w),
        machine.upload(w, 0, 8, "F32", bytesOf(filled(8 * WIDTH, 1))),
        prepare(machine, (r, x) => r.relu({ x })),
      ]);
    const waiting = calls();
    await machine.dispose();
    for (const results of [await waiting, await calls()]) {
      for (const result of results) {
        expect(result).toMatchObject({ status: "rejected", reason: { name: "BackendError" } });
        expect(result).toMatchObject({
          reason: { message: expect.stringContaining("has been disposed of. Load it again.") },
        });
      }
    }
  });

  it("rejects a run whose signal is aborted before its turn, and only that", async () => {
    const machine = await open();
    const program = await prepare(machine, (r, x) => r.relu({ x }));
    const aborted = AbortSignal.abort(new Error("too late"));
    const controller = new AbortController();
    const results = Promise.allSettled([
      program.run(filled(WIDTH, 1), {}, [], aborted),
      program.run(filled(WIDTH, 2)),
      program.run(filled(WIDTH, 3), {}, [], controller.signal),
      program.run(filled(WIDTH, 4)),
    ]);
    controller.abort(new Error("stop"));
    expect(await results).toEqual([
      { status: "rejected", reason: new Error("too late") },
      { status: "fulfilled", value: filled(WIDTH, 2) },
      { status: "rejected", reason: new Error("stop") },
      { status: "fulfilled", value: filled(WIDTH, 4) },
    ]);
  });

  it("says what it is", async () => {
    const machine = await open();
    expect(machine.device).toBe(name === "reference" ? "reference" : "wasm");
    expect(machine.threads).toBe(name === "two threads that share" ? 2 : 1);
  });
});

const [ROWS, SIDE] = [64, 128];

/** A program that takes a while: products with the identity, then its result goes into a cache, too. */
async function chain(
  machine: Machine,
  links: number,
  [rows, side]: readonly [number, number] = [ROWS, SIDE],
): Promise<Prepared & { readonly end: Tensor }> {
  const [identity, end] = [weight("identity", side, side), cache("end", rows, side)];
  const x = input("x", side);
  const body = (r: Recorder): Tensor => {
    let y = x;
    for (let i = 0; i < links; i++) y = r.linear({ x: y, weight: identity });
    r.store({ cache: end, x: y });
    return y;
  };
  const { run, ...program } = await prepare(machine, body, { tokens: rows, outputs: 1, positions: rows });
  const values = Float32Array.from({ length: side * side }, (_, i) => (i % (side + 1) === 0 ? 1 : 0));
  await machine.upload(identity, 0, side, "F32", bytesOf(values));
  return {
    ...program,
    end,
    run: (given, numbers, inputs = [], signal) =>
      run(undefined, { tokens: rows, ...numbers }, [...inputs, { tensor: x, bytes: bytesOf(given!) }], signal),
  };
}

/** Until the calls that were made have begun. */
const begun = (): Promise<void> => new Promise((resume) => void setImmediate(resume));

describe.each([
  ["reference", reference, 150],
  ["a thread of its own", unsharedThread, 2000],
  ["two threads that share", twoThreads, 2000],
] as const)("a cancel belongs to its run: %s", (name, backend, links) => {
  const [one, two, three] = [1, 2, 3].map((value) => filled(ROWS * SIDE, value));

  async function open(count: number = links) {
    const machine = await backend.open();
    onTestFinished(() => machine.dispose());
    return { machine, program: await chain(machine, count) };
  }

  it("with a run aborted while another waits, the other resolves with its own output", async () => {
    const { program } = await open();
    const controller = new AbortController();
    const results = Promise.allSettled([program.run(one, {}, [], controller.signal), program.run(two)]);
    await begun();
    controller.abort(new Error("stop"));
    expect(await results).toEqual([
      { status: "rejected", reason: new Error("stop") },
      { status: "fulfilled", value: two },
    ]);
  });

  it("two runs that are aborted reject with their own reasons, and the next one is whole", async () => {
    const { program } = await open();
    const [first, second] = [new AbortController(), new AbortController()];
    const results = Promise.allSettled([
      program.run(one, {}, [], first.signal),
      program.run(two, {}, [], second.signal),
      program.run(three),
    ]);
    await begun();
    second.abort(new Error("second"));
    first.abort(new Error("first"));
    expect(await results).toEqual([
      { status: "rejected", reason: new Error("first") },
      { status: "rejected", reason: new Error("second") },
      { status: "fulfilled", value: three },
    ]);
  });

  it("an abort after its run has ended does nothing to the run in work", async () => {
    const { program } = await open();
    const controller = new AbortController();
    expect(await program.run(one, {}, [], controller.signal)).toEqual(one);
    const second = program.run(two);
    await begun();
    controller.abort();
    expect(await second).toEqual(two);
  });

  it("runs that wait for each other keep apart what they were given", async () => {
    const { program } = await open();
    expect(await Promise.all([program.run(one), program.run(two), program.run(three)])).toEqual([one, two, three]);
  });

  it("an aborted run stops before its end, but where memory is not shared", async () => {
    const { machine, program } = await open(2 * links);
    const controller = new AbortController();
    const run = program.run(one, {}, [], controller.signal);
    const stopped = expect(run).rejects.toThrow("stop");
    await begun();
    controller.abort(new Error("stop"));
    await stopped;
    const untouched = filled(ROWS * SIDE, 0);
    const isWhole = name === "a thread of its own";
    expect(await floats(machine, program.end, ROWS * SIDE)).toEqual(isWhole ? one : untouched);
    await program.run(two);
    expect(await floats(machine, program.end, ROWS * SIDE)).toEqual(two);
  });
});

it.each([
  ["the reference", reference],
  ["a thread of its own", unsharedThread],
  ["two threads", twoThreads],
  ["more threads than cores", crowdedThreads],
])("aborts at any time, one after the other, leave every other run whole: %s", async (_, backend) => {
  const machine = await backend.open();
  onTestFinished(() => machine.dispose());
  const count = 16 * 32;
  const program = await chain(machine, 400, [16, 32]);
  for (let round = 1; round <= 40; round++) {
    const controller = new AbortController();
    const [value, other] = [filled(count, round), filled(count, -round)];
    const results = Promise.allSettled([program.run(value, {}, [], controller.signal), program.run(other)]);
    if (round % 4 > 0) await begun();
    for (let spin = 0; spin < round * 200; spin++) performance.now();
    controller.abort(new Error("stop"));
    const [first, second] = await results;
    if (first.status === "fulfilled") expect(first.value).toEqual(value);
    else expect(first.reason).toEqual(new Error("stop"));
    expect(second).toEqual({ status: "fulfilled", value: other });
  }
});

describe.each(backends.filter(([name]) => name !== "reference"))("what can't be prepared: %s", (_, backend) => {
  async function open() {
    const machine = await backend.open();
    onTestFinished(() => machine.dispose());
    const w = weight("w", 8, WIDTH, "q8");
    const program = await prepare(machine, (r, x) => r.linear({ x, weight: w }));
    await fill(machine, w, 1);
    const before = { memory: machine.memory, y: await program.run(filled(WIDTH, 1)) };
    const expectUnchanged = async (): Promise<void> => {
      expect({ memory: machine.memory, y: await program.run(filled(WIDTH, 1)) }).toEqual(before);
    };
    return { machine, w, expectUnchanged };
  }

  it("is refused where a 32-bit memory cannot hold it, before anything is taken", async () => {
    const { machine, expectUnchanged } = await open();
    const large = prepare(machine, (r) => {
      const x = input("x", 40_000);
      return r.linear({ x, weight: weight("large", 40_000, 40_000) });
    });
    await expect(large).rejects.toThrowErrorMatchingInlineSnapshot(
      `[BackendError: wasm: the model needs 6.0 GiB, a 32-bit memory holds 4.0 GiB. Use a smaller dtype ("q8" or "q4") or contextLength.]`,
    );
    await expectUnchanged();
  });

  it("is refused where it trains what is no f32, and nothing changes", async () => {
    const { machine, w, expectUnchanged } = await open();
    const fresh = weight("fresh", 8, WIDTH);
    const training = prepare(machine, (r) => {
      const dy = r.linear({ x: input("x", WIDTH), weight: fresh });
      return r.add({ a: r.linearInput({ dy, weight: fresh }), b: r.linearInput({ dy, weight: w }) });
    });
    await expect(training).rejects.toThrowErrorMatchingInlineSnapshot(
      `[BackendError: wasm: w must be in f32 to be trained, got q8. Load it in f32.]`,
    );
    await expect(machine.download(fresh)).rejects.toThrow("internal:");
    await expectUnchanged();
    await prepare(machine, (r) => r.linear({ x: input("x", WIDTH), weight: fresh }));
    expect(await machine.download(fresh)).toEqual(filled(8 * WIDTH, 0));
  });
});

type Inputs = NonNullable<ReplayOptions["inputs"]>;
type Numbers = { readonly tokens?: number; readonly position?: number; readonly outputs?: number };

type Prepared = Pick<PreparedProgram, "release"> & {
  /** Resolves to what the program makes; nothing, if it only changes things. */
  readonly run: (x?: Float32Array, numbers?: Numbers, inputs?: Inputs, signal?: AbortSignal) => Promise<Float32Array>;
};

/** Records a program, of an input `x` if it wants, and prepares it. */
async function prepare(
  machine: Machine,
  body: (r: Recorder, x: Tensor) => Tensor,
  within: Limits = limits,
): Promise<Prepared> {
  const r = createRecorder(within);
  const x = input("x", WIDTH);
  const made = body(r, x);
  const isMade = made.kind === "activation";
  const finished: { readonly program: Program; readonly y: Tensor } = isMade
    ? r.finish({ y: made })
    : { program: { limits: within, operations: r.operations }, y: made };
  const { run, release } = await machine.prepare(finished.program);
  return {
    release,
    async run(values, numbers = {}, inputs = [], signal) {
      const all = { tokens: values ? values.length / WIDTH : 1, position: 0, outputs: 0, ...numbers };
      const rows = typeof finished.y.rows === "number" ? finished.y.rows : all[finished.y.rows];
      const bytes = await run(all, {
        inputs: values ? [...inputs, { tensor: x, bytes: bytesOf(values) }] : inputs,
        ...(isMade ? { output: { tensor: finished.y, length: rows * finished.y.cols * 4 } } : {}),
        signal,
      });
      return floatsOf(bytes);
    },
  };
}

async function fill(machine: Machine, tensor: Tensor, value: number): Promise<void> {
  const rows = Number(tensor.rows);
  await machine.upload(tensor, 0, rows, "F32", bytesOf(filled(rows * tensor.cols, value)));
}

async function floats(machine: Machine, tensor: Tensor, count: number): Promise<Float32Array> {
  return floatsOf(await machine.read(tensor, 0, count * 4));
}

function filled(count: number, value: number): Float32Array<ArrayBuffer> {
  return new Float32Array(count).fill(value);
}

/** A copy. */
function bytesOf(values: Float32Array | Int32Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(values.slice().buffer);
}

function floatsOf(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.slice().buffer);
}
