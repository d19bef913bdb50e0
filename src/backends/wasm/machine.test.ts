/** What machine.ts does where memory is short: a leader that has only so much stands in for the workers. */
import { expect, it } from "vitest";
import { BackendError } from "../../errors.ts";
import { OPTIMIZER_SETTINGS } from "../../kernels/adamw/adamw.ts";
import type { Program } from "../../program/program.ts";
import { createRecorder, input, type Recorder, weight } from "../../program/recorder.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { Machine } from "../backend.ts";
import type { Request } from "./host.ts";
import { createMachine } from "./machine.ts";

const limits = { tokens: 4, outputs: 4, positions: 4 };

/** A machine whose memory ends at `room.bytes`, and what it has asked for. */
function openWithin(): { machine: Machine; room: { bytes: number }; asked: (Request["kind"] | "cancel")[] } {
  const room = { bytes: Infinity };
  const asked: (Request["kind"] | "cancel")[] = [];
  const ask = async (kind: Request["kind"]): Promise<{ id: number }> => {
    asked.push(kind);
    return { id: asked.length };
  };
  const machine = createMachine(
    {
      ask: ({ kind }) => ask(kind),
      write: async () => void (await ask("write")),
      clear: async () => void (await ask("clear")),
      async grow(end) {
        if (end > room.bytes) throw new BackendError("wasm: so much is not to be had.");
      },
      cancel: () => void asked.push("cancel"),
      dispose: async () => {},
    },
    2,
    "fake",
  );
  return { machine, room, asked };
}

function record(body: (r: Recorder) => Tensor): Program {
  const r = createRecorder(limits);
  body(r);
  return { limits, operations: r.operations };
}

const w = weight("w", 16, 16);
const forward = record((r) => r.linear({ x: input("x", 16), weight: w }));
const like = (name: string, kind: "gradient" | "moment"): Tensor => ({ ...w, name, kind });
const update = record((r) =>
  r.adamw({
    weight: w,
    gradient: like("gradient", "gradient"),
    mean: like("mean", "moment"),
    square: like("square", "moment"),
    norm: input("norm", 2, 1),
    settings: input("settings", OPTIMIZER_SETTINGS, 1),
    decays: 1,
  }),
);

it("changes nothing for a program for which memory doesn't grow, not even what earlier ones would need with it", async () => {
  const { machine, room, asked } = openWithin();
  await machine.prepare(forward);
  const before = machine.memory;
  // Enough for the update, but not for panels of the products that `forward` needs once its weight is trained.
  room.bytes = before.total + 100_000;
  asked.length = 0;
  await expect(machine.prepare(update)).rejects.toThrow("wasm: so much is not to be had.");
  expect(asked).toEqual([]);
  expect(machine.memory).toEqual(before);

  room.bytes = Infinity;
  await machine.prepare(update);
  expect(asked.filter((kind) => kind !== "write")).toEqual(["clear", "clear", "clear", "unblock"]);
  expect(machine.memory.total).toBeGreaterThan(before.total + 1_000_000);
});
