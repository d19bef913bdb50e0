/**
 * The trainer: weights, gradients and moments on a device, and the recorded program that steps them. Everything that a step
 * depends on is here or in the caller's rows, so that a step can be repeated bit for bit.
 */
import type { Backend, Machine, MemoryReport } from "../backends/backend.ts";
import { TrainingError } from "../errors.ts";
import { type ModelConfig, checkConfig } from "../model/config.ts";
import { type Parameter, type RecordedTraining, recordTraining } from "../model/mobilellm.ts";
import type { Tensor } from "../program/operation.ts";
import { createOptimizer, type Optimizer, type OptimizerOptions, settingsAt } from "./optimizer.ts";
import { packTrainingRows, type PackedRows, type Row, rowLength } from "./rows.ts";
import { createSchedule, learningRateAt, type Schedule, type ScheduleOptions } from "./schedule.ts";

export type TrainerOptions = {
  readonly optimizer?: OptimizerOptions | undefined;
  /** Default: constant at 2e-3. */
  readonly schedule?: ScheduleOptions | undefined;
  /** Most rows of a micro-batch and most tokens that a row feeds in; memory is planned for them. Grows when more come. */
  readonly rows?: number | undefined;
  readonly length?: number | undefined;
  /** Makes the activations within a block again for its gradients, rather than keep them: less memory, a third more work. */
  readonly recompute?: boolean | undefined;
};

export type StepReport = {
  /** Nats for each target, the mean over micro-batches, before the update. */
  readonly loss: number;
  /** Global norm of the gradients, before clipping. */
  readonly gradientNorm: number;
  readonly learningRate: number;
};

/** Where values come from at the start: an initialization, a checkpoint, a saved trainer. */
export type ParameterSource = {
  /** Values of a parameter in f32, row by row. */
  weight(name: string, count: number): Promise<Float32Array>;
  /** Its moments; undefined: zeros. */
  readonly moment?: (name: string, what: MomentName, count: number) => Promise<Float32Array>;
  /** Updates that were done. */
  readonly steps: number;
};

export type MomentName = "mean" | "square";

/** What a saved trainer holds besides its tensors. */
export type TrainerState = { readonly steps: number; readonly optimizer: Optimizer; readonly schedule: Schedule };

export type TrainerCore = {
  readonly config: ModelConfig;
  /** Updates done so far. */
  readonly steps: number;
  /** Which build and how many threads. */
  readonly description: string;
  readonly memory: MemoryReport;
  /**
   * One update from the mean loss over micro-batches.
   * @throws {TrainingError} if loss or gradients are not finite; the weights are then as they were.
   */
  readonly step: (microBatches: readonly (readonly Row[])[], options?: CallOptions) => Promise<StepReport>;
  /** Summed nats and the number of targets; changes nothing. */
  readonly evaluate: (rows: readonly Row[], options?: CallOptions) => Promise<{ loss: number; tokens: number }>;
  /** Of the mean loss over the rows, by Hugging Face name; changes nothing. */
  readonly gradients: (rows: readonly Row[]) => Promise<Map<string, Float32Array>>;
  state(): TrainerState;
  readonly parameterNames: readonly string[];
  /** (outputs, inputs) of a matrix, (width) of a gain. */
  shapeOf(name: string): readonly number[];
  /** What the optimizer keeps of it. */
  momentsOf(name: string): readonly MomentName[];
  /** @param what the weight, or one of its moments. */
  read(name: string, what: "weight" | MomentName): Promise<Float32Array>;
  readonly dispose: () => Promise<void>;
};

export type CallOptions = { readonly signal?: AbortSignal | undefined };

/** Rows × tokens that memory is planned for until more come. */
const FIRST_ROWS = 1;
const FIRST_LENGTH = 64;

type Device = { readonly recorded: RecordedTraining; readonly machine: Machine };

export async function createTrainerOn(
  backend: Backend,
  config: ModelConfig,
  source: ParameterSource,
  options: TrainerOptions,
): Promise<TrainerCore> {
  checkConfig(config);
  for (const key of ["rows", "length"] as const) {
    const value = options[key] ?? 1;
    if (Number.isInteger(value) && value >= 1) continue;
    throw new RangeError(`createTrainer: ${key}: expected a whole number from 1, got ${String(value)}.`);
  }
  const optimizer = createOptimizer(options.optimizer);
  const schedule = createSchedule(options.schedule ?? { kind: "constant" });
  let { steps } = source;
  let device = await openDevice(
    options.rows ?? FIRST_ROWS,
    options.length ?? Math.min(FIRST_LENGTH, config.contextLength),
  );
  try {
    for (const [name, parameter] of device.recorded.parameters) {
      const count = (parameter.weight.rows as number) * parameter.weight.cols;
      await write(device.machine, parameter.weight, await source.weight(name, count));
      if (!source.moment) continue;
      for (const what of momentsOf(parameter)) {
        await write(device.machine, parameter[what]!, await source.moment(name, what, count));
      }
    }
  } catch (error) {
    await device.machine.dispose();
    throw error;
  }

  async function openDevice(rows: number, length: number): Promise<Device> {
    const tokens = rows * length;
    const limits = { tokens, outputs: tokens, positions: length };
    const recorded = recordTraining(config, limits, {
      recomputes: options.recompute ?? false,
      hasMuon: optimizer.kind === "muon",
    });
    return { recorded, machine: await backend.open(recorded.program) };
  }

  /** A device on which these rows fit: the one that is there, or a larger one with the same values. */
  async function fit(rows: number, length: number): Promise<Device> {
    const { limits } = device.recorded.program;
    if (rows * length <= limits.tokens && length <= limits.positions) return device;
    const longest = Math.max(length, limits.positions);
    const larger = await openDevice(Math.ceil(Math.max(rows * length, limits.tokens) / longest), longest);
    for (const [name, from] of device.recorded.parameters) {
      const to = larger.recorded.parameters.get(name)!;
      for (const what of ["weight", ...momentsOf(from)] as const) {
        await write(larger.machine, to[what]!, await read(device.machine, from[what]!));
      }
    }
    await device.machine.dispose();
    device = larger;
    return device;
  }

  /** Losses of the rows, summed in f64; in part `gradients` they also add to the gradients, times `scale`. */
  async function sumLosses(
    part: "gradients" | "losses",
    packed: PackedRows,
    scale: number,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const { tokens, targets, length } = packed;
    const { recorded, machine } = await fit(tokens.length / length, length);
    const bytes = await machine.run(
      { tokens: tokens.length, position: 0, outputs: 0, length },
      {
        part,
        inputs: [
          { tensor: recorded.tokens, bytes: bytesOf(tokens) },
          { tensor: recorded.targets, bytes: bytesOf(targets) },
          { tensor: recorded.scale, bytes: bytesOf(Float32Array.of(scale)) },
        ],
        output: { tensor: recorded.losses[part], length: tokens.length * 4 },
        signal,
      },
    );
    return floatsOf(bytes).reduce((sum, loss) => sum + loss, 0);
  }

  async function clear(): Promise<void> {
    await device.machine.run({ tokens: 0, position: 0, outputs: 0 }, { part: "clear" });
  }

  const pack = (rows: readonly Row[]): PackedRows => packTrainingRows(rows, config.vocabSize, config.contextLength);
  /** Rows to learn from. */
  const packTargets = (rows: readonly Row[]): PackedRows => {
    const packed = pack(rows);
    if (packed.count > 0) return packed;
    throw new RangeError("training rows: at least one target was required, got none. Is all masked?");
  };

  return {
    config,
    get steps() {
      return steps;
    },
    get description() {
      return device.machine.description;
    },
    get memory() {
      return device.machine.memory;
    },
    async step(microBatches, { signal } = {}) {
      if (microBatches.length === 0) throw new RangeError("step: at least one micro-batch was required, got none.");
      const batches = microBatches.map(packTargets);
      const longest = Math.max(...batches.map(({ length }) => length));
      await fit(Math.max(...microBatches.map((rows) => rows.length)), longest); // gradients don't move
      const learningRate = learningRateAt(schedule, steps);
      let loss = 0;
      try {
        for (const batch of batches) {
          const scale = 1 / (batch.count * batches.length);
          loss += (await sumLosses("gradients", batch, scale, signal)) * scale;
        }
        if (!Number.isFinite(loss)) throw divergence(steps + 1, "loss", loss);
      } catch (error) {
        await clear();
        throw error;
      }
      const { recorded, machine } = device;
      const settings = settingsAt(optimizer, steps, learningRate);
      const bytes = await machine.run(
        { tokens: 0, position: 0, outputs: 0 },
        {
          part: "update",
          inputs: [{ tensor: recorded.settings, bytes: bytesOf(settings) }],
          output: { tensor: recorded.norm, length: 4 },
        },
      );
      const gradientNorm = floatsOf(bytes)[0]!;
      if (!Number.isFinite(gradientNorm)) {
        await clear();
        throw divergence(steps + 1, "gradient norm", gradientNorm);
      }
      steps++;
      return { loss, gradientNorm, learningRate };
    },
    async evaluate(rows, { signal } = {}) {
      const { tokens, positions } = device.recorded.program.limits;
      let loss = 0;
      let counted = 0;
      const longest = Math.max(positions, ...rows.map(rowLength));
      const atOnce = Math.max(1, Math.floor(tokens / longest));
      for (let start = 0; start < rows.length; start += atOnce) {
        const packed = pack(rows.slice(start, start + atOnce));
        loss += await sumLosses("losses", packed, 1, signal);
        counted += packed.count;
      }
      return { loss, tokens: counted };
    },
    async gradients(rows) {
      const packed = packTargets(rows);
      await sumLosses("gradients", packed, 1 / packed.count, undefined);
      const gradients = new Map<string, Float32Array>();
      for (const [name, { gradient }] of device.recorded.parameters) {
        gradients.set(name, await read(device.machine, gradient));
      }
      await clear();
      return gradients;
    },
    state: () => ({ steps, optimizer, schedule }),
    parameterNames: [...device.recorded.parameters.keys()],
    shapeOf(name) {
      const { rows, cols } = device.recorded.parameters.get(name)!.weight;
      return rows === 1 ? [cols] : [rows as number, cols];
    },
    momentsOf: (name) => momentsOf(device.recorded.parameters.get(name)!),
    read: (name, what) => read(device.machine, device.recorded.parameters.get(name)![what]!),
    dispose: () => device.machine.dispose(),
  };
}

function momentsOf({ square }: Parameter): readonly MomentName[] {
  return square ? ["mean", "square"] : ["mean"];
}

function divergence(step: number, what: string, value: number): TrainingError {
  return new TrainingError(
    `step ${step}: ${what} must be finite, got ${value}. Nothing was changed: go on from an earlier checkpoint with a lower peak learning rate, a longer warm-up or a smaller clip.`,
  );
}

/** Values pass in pieces, so that no copy of a whole matrix is on its way to the worker. */
const PIECE = 1 << 20;

async function write(machine: Machine, tensor: Tensor, values: Float32Array): Promise<void> {
  const bytes = bytesOf(values);
  for (let at = 0; at < bytes.length; at += PIECE) await machine.write(tensor, at, bytes.subarray(at, at + PIECE));
}

async function read(machine: Machine, tensor: Tensor): Promise<Float32Array> {
  const values = new Float32Array((tensor.rows as number) * tensor.cols);
  const bytes = bytesOf(values);
  for (let at = 0; at < bytes.length; at += PIECE) {
    bytes.set(await machine.read(tensor, at, Math.min(PIECE, bytes.length - at)), at);
  }
  return values;
}

function bytesOf(array: Float32Array | Int32Array): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

function floatsOf(bytes: Uint8Array): Float32Array {
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}
