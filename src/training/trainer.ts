/**
 * The trainer: programs over a model's weights that add up gradients and step the weights. Everything that a step depends on is
 * here or in the caller's rows, so that a step can be repeated bit for bit.
 */
import { type Backend, type Machine, type MemoryReport, prepareAll, releaseAll } from "../backends/backend.ts";
import { TrainingError } from "../errors.ts";
import { fixedCount } from "../kernels/operation.ts";
import { checkConfig, type ModelConfig } from "../model/config.ts";
import { createWeights, DEFAULT_CONTEXT, type LoadedModel } from "../model/load.ts";
import * as o from "../options.ts";
import { bytesOf, floatsOf } from "../tensor/bytes.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { createOptimizer, type Optimizer, type OptimizerOptions, optimizerSchema, settingsAt } from "./optimizer.ts";
import { createRowRunner } from "./row-runner.ts";
import { packTrainingRows, type PackedRows, type Row, rowLength } from "./rows.ts";
import { planLearningRate, learningRateAt, type Schedule, type ScheduleOptions, scheduleSchema } from "./schedule.ts";
import { createParameters, type Parameter, recordUpdate } from "./step-programs.ts";
import { readTensor, uploadTensor, writeTensor } from "./tensor-io.ts";

export type TrainerOptions = {
  readonly optimizer?: OptimizerOptions | undefined;
  /** Default: constant at 2e-3. */
  readonly schedule?: ScheduleOptions | undefined;
  /** Most rows of a micro-batch and most tokens that a row feeds in; memory is planned for them. Grows when more come. */
  readonly rows?: number | undefined;
  readonly length?: number | undefined;
  /** Makes the activations within a block again for its gradients, rather than keep them: less memory, a third more work. */
  readonly recompute?: boolean | undefined;
  /** Says of a tensor, by Hugging Face name, whether it is trained; the others stay as they are. Default: all are. */
  readonly trains?: ((name: string) => boolean) | undefined;
};

/** Options whose optimizer and schedule are filled in. */
export type TrainerSettings = Omit<TrainerOptions, "optimizer" | "schedule"> & {
  readonly optimizer?: Optimizer | undefined;
  readonly schedule?: Schedule | undefined;
};

export const trainerEntries: o.Entries<TrainerOptions, TrainerSettings> = {
  optimizer: o.optional(optimizerSchema),
  schedule: o.optional(scheduleSchema),
  rows: o.optional(o.count),
  length: o.optional(o.count),
  recompute: o.optional(o.flag),
  trains: o.optional(o.callback()),
};

const trainerSchema: o.Schema<TrainerOptions, TrainerSettings> = o.object(trainerEntries);

export type StepReport = {
  /** Nats for each target, the mean over micro-batches, before the update. */
  readonly loss: number;
  /** Global norm of the gradients, before clipping. */
  readonly gradientNorm: number;
  readonly learningRate: number;
};

/** Where values come from at the start: an initialization, a checkpoint, a saved trainer. */
export type ParameterSource = {
  /** Values of a parameter in f32, row by row; undefined: they are on the device already. */
  readonly weight?: (name: string, count: number) => Promise<Float32Array>;
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
  /** The weights and where they lie: what other programs over them stand on. */
  readonly loaded: LoadedModel;
  /**
   * One update from the mean loss over micro-batches: `accumulate` for each, `reduce`, `update`.
   * @throws {TrainingError} if loss or gradients are not finite; the weights are then as they were.
   */
  readonly step: (microBatches: readonly (readonly Row[])[], options?: CallOptions) => Promise<StepReport>;
  /** Adds the gradients of `weight` · the mean loss over the rows to those that are there; resolves to the mean loss. */
  readonly accumulate: (rows: readonly Row[], weight?: number, options?: CallOptions) => Promise<number>;
  /** The global norm of the gradients as they are. */
  readonly reduce: () => Promise<number>;
  /**
   * Steps the weights by the gradients, and clears these.
   * @throws {TrainingError} if their norm is not finite; nothing is changed then.
   */
  readonly update: () => Promise<void>;
  /** The sum of a weight's gradients so far, row by row, and numbers in its place: another machine's added, say. */
  readonly readGradient: (name: string) => Promise<Float32Array>;
  readonly writeGradient: (name: string, values: Float32Array) => Promise<void>;
  readonly clearGradients: () => Promise<void>;
  /** Summed nats and the number of targets; changes nothing. */
  readonly evaluate: (rows: readonly Row[], options?: CallOptions) => Promise<{ loss: number; tokens: number }>;
  /** The gradients of the mean loss over the rows, by Hugging Face name; changes nothing. */
  readonly gradients: (rows: readonly Row[]) => Promise<Map<string, Float32Array>>;
  state(): TrainerState;
  /** All tensors of the model, and those that are trained. */
  readonly tensorNames: readonly string[];
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

/** A trainer over weights of its own, on a machine that ends with it. */
export async function createOwnTrainer(
  backend: Backend,
  config: ModelConfig,
  source: ParameterSource,
  options: TrainerOptions,
): Promise<TrainerCore> {
  checkConfig(config);
  const machine = await backend.open();
  const weights = createWeights(config, () => "f32");
  const contextLength = Math.min(config.contextLength, DEFAULT_CONTEXT);
  const loaded: LoadedModel = { config, dtype: "f32", contextLength, weights, machine, version: { current: 0 } };
  try {
    return Object.assign(await createTrainerOn(loaded, source, options), { dispose: () => machine.dispose() });
  } catch (error) {
    await machine.dispose();
    throw error;
  }
}

/**
 * Prepares a trainer over a model's weights, whose machine it shares.
 * @throws {RangeError} for settings out of range, {BackendError} when memory is short.
 */
export async function createTrainerOn(
  loaded: LoadedModel,
  source: ParameterSource,
  options: TrainerOptions,
): Promise<TrainerCore> {
  const { config, machine } = loaded;
  const checked = o.check("createTrainer", trainerSchema, options);
  const { optimizer = createOptimizer(), schedule = planLearningRate({ kind: "constant" }) } = checked;
  const parameters = createParameters(loaded.weights, optimizer.kind === "muon", checked.trains ?? (() => true));
  if (parameters.size === 0) throw new RangeError("createTrainer.trains: a tensor or more was required, got none.");
  const { settings, norm, ...programs } = recordUpdate([...parameters.values()]);
  const first = {
    rows: checked.rows ?? FIRST_ROWS,
    length: checked.length ?? Math.min(FIRST_LENGTH, config.contextLength),
  };
  let { steps } = source;

  const prepared = await prepareAll(machine, [programs.reduce, programs.update, programs.clear]);
  const [reducing, updating, clearing] = prepared;
  const runner = await createRowRunner(loaded, parameters, {
    ...first,
    recomputes: checked.recompute ?? false,
  }).catch(async (error: unknown) => {
    await releaseAll(prepared); // a model that is trained in place goes on without them
    throw error;
  });
  await fillWeights(loaded, parameters, source);

  const clear = async (): Promise<void> => {
    known = undefined;
    await clearing.run(NO_ROWS);
  };

  const currentSettings = (): { readonly tensor: Tensor; readonly bytes: Uint8Array } => {
    const values = settingsAt(optimizer, steps, learningRateAt(schedule, steps));
    return { tensor: settings, bytes: bytesOf(values) };
  };

  /** The norm of the gradients as they are; undefined after they have changed. */
  let known: number | undefined;

  async function reduce(): Promise<number> {
    await reducing.run(NO_ROWS, { inputs: [currentSettings()] });
    const [gradientNorm = NaN] = floatsOf(await machine.read(norm, 0, 4));
    known = gradientNorm;
    return gradientNorm;
  }

  async function update(): Promise<void> {
    const gradientNorm = known ?? (await reduce());
    if (!Number.isFinite(gradientNorm)) throw divergence(steps + 1, "gradient norm", gradientNorm);
    await updating.run(NO_ROWS, { inputs: [currentSettings()] });
    known = undefined;
    loaded.version.current++;
    steps++;
  }

  async function addGradients(batch: PackedRows, scale: number, signal: AbortSignal | undefined): Promise<number> {
    known = undefined;
    return runner.sumLosses("accumulate", batch, scale, signal);
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
    loaded,
    get steps() {
      return steps;
    },
    get description() {
      return machine.description;
    },
    get memory() {
      return machine.memory;
    },
    async step(microBatches, { signal } = {}) {
      if (microBatches.length === 0) throw new RangeError("step: at least one micro-batch was required, got none.");
      const batches = microBatches.map(packTargets);
      // Once for all of them: memory then grows at most once.
      await runner.fit(
        Math.max(...microBatches.map((rows) => rows.length)),
        Math.max(...batches.map(({ length }) => length)),
      );
      const learningRate = learningRateAt(schedule, steps);
      let loss = 0;
      try {
        for (const batch of batches) {
          const scale = 1 / (batch.count * batches.length);
          loss += (await addGradients(batch, scale, signal)) * scale;
        }
        if (!Number.isFinite(loss)) throw divergence(steps + 1, "loss", loss);
        const gradientNorm = await reduce();
        await update();
        return { loss, gradientNorm, learningRate };
      } catch (error) {
        await clear();
        throw error;
      }
    },
    async accumulate(rows, weight = 1, { signal } = {}) {
      const batch = packTargets(rows);
      return (await addGradients(batch, weight / batch.count, signal)) / batch.count;
    },
    reduce,
    update,
    ...accessTo(loaded, parameters),
    async writeGradient(name, values) {
      known = undefined;
      await writeGradient(machine, parameterOf(parameters, name).gradient, values);
    },
    clearGradients: clear,
    async evaluate(rows, { signal } = {}) {
      const { tokens, positions } = runner.limits;
      let loss = 0;
      let counted = 0;
      const longest = Math.max(positions, ...rows.map(rowLength));
      const atOnce = Math.max(1, Math.floor(tokens / longest));
      for (let start = 0; start < rows.length; start += atOnce) {
        const packed = pack(rows.slice(start, start + atOnce));
        loss += await runner.sumLosses("losses", packed, 1, signal);
        counted += packed.count;
      }
      return { loss, tokens: counted };
    },
    async gradients(rows) {
      const packed = packTargets(rows);
      await addGradients(packed, 1 / packed.count, undefined);
      const gradients = new Map<string, Float32Array>();
      for (const [name, { gradient }] of parameters) gradients.set(name, await readTensor(machine, gradient));
      await clear();
      return gradients;
    },
    state: () => ({ steps, optimizer, schedule }),
    dispose: () => releaseAll([runner, ...prepared]),
  };
}

function accessTo(
  { machine, weights }: LoadedModel,
  parameters: ReadonlyMap<string, Parameter>,
): Pick<TrainerCore, "tensorNames" | "parameterNames" | "shapeOf" | "momentsOf" | "read" | "readGradient"> {
  return {
    tensorNames: [...weights.keys()],
    parameterNames: [...parameters.keys()],
    shapeOf(name) {
      const { rows, cols } = weights.get(name)!;
      return rows === 1 ? [cols] : [rows as number, cols];
    },
    momentsOf: (name) => momentsOf(parameterOf(parameters, name)),
    async read(name, what) {
      const frozen = what === "weight" && !parameters.has(name) && weights.get(name);
      return frozen ? machine.download(frozen) : readTensor(machine, parameterOf(parameters, name)[what]!);
    },
    readGradient: async (name) => readTensor(machine, parameterOf(parameters, name).gradient),
  };
}

function parameterOf(parameters: ReadonlyMap<string, Parameter>, name: string): Parameter {
  const parameter = parameters.get(name);
  if (parameter) return parameter;
  throw new RangeError(`trainer: a tensor of the model was required, got ${JSON.stringify(name)}.`);
}

async function writeGradient(machine: Machine, gradient: Tensor, values: Float32Array): Promise<void> {
  const count = fixedCount(gradient);
  if (values.length !== count) {
    throw new RangeError(`writeGradient: ${count} numbers were required (${gradient.name}), got ${values.length}.`);
  }
  await writeTensor(machine, gradient, values);
}

const NO_ROWS = { tokens: 0, position: 0, outputs: 0 };

async function fillWeights(
  { machine, weights }: LoadedModel,
  parameters: ReadonlyMap<string, Parameter>,
  source: ParameterSource,
): Promise<void> {
  for (const [name, weight] of weights) {
    const count = fixedCount(weight);
    if (source.weight) await uploadTensor(machine, weight, await source.weight(name, count));
    const parameter = parameters.get(name);
    if (!parameter || !source.moment) continue;
    for (const what of momentsOf(parameter)) {
      await writeTensor(machine, parameter[what]!, await source.moment(name, what, count));
    }
  }
}

function momentsOf({ square }: Parameter): readonly MomentName[] {
  return square ? ["mean", "square"] : ["mean"];
}

function divergence(step: number, what: string, value: number): TrainingError {
  return new TrainingError(
    `step ${step}: ${what} must be finite, got ${value}. Nothing was changed: go on from an earlier checkpoint with a lower peak learning rate, a longer warm-up or a smaller clip.`,
  );
}
