/**
 * MobileLLM's forward pass, once, in the paper's order (arXiv 2402.14905; Llama's block, grouped-query attention, one
 * matrix for embedding and head). Layer sharing is the schedule: a block applied again uses the same weights.
 * Shapes: T tokens, N outputs, C dim, H heads, G kvHeads, D headSize, F hidden, V vocabulary.
 */
import { backward } from "../program/backward.ts";
import { type Operation, OPTIMIZER_SETTINGS, SQUARES_CHUNK, type Tensor } from "../program/operation.ts";
import type { Limits, Part, Program } from "../program/program.ts";
import { createRecorder, type Recorder } from "../program/recorder.ts";
import type { Dtype } from "../tensor/dtype.ts";
import type { ModelConfig } from "./config.ts";
import { createSchedule } from "./schedule.ts";

/**
 * A model recorded for inference, with the tensors that the outside reads and writes. Part `logits` ends with them; part
 * `scores` goes on to the log-probabilities of given tokens.
 */
export type RecordedModel = {
  readonly program: Program;
  readonly tokens: Tensor;
  /** Where T cache rows from P on stand in their texts: tensor/places.ts. */
  readonly places: Tensor;
  /** N of the T rows: those that reach the head. */
  readonly rows: Tensor;
  /** (N, V). */
  readonly logits: Tensor;
  /** N tokens, and (N, 2): log P of each after its row, and whether it is the likeliest. */
  readonly targets: Tensor;
  readonly scores: Tensor;
  /** By Hugging Face name. */
  readonly weights: ReadonlyMap<string, Tensor>;
  /** Keys and values of each cache slot. */
  readonly caches: readonly Tensor[];
};

/** A model recorded for training: parts `gradients` (forward and backward), `losses`, `update` and `clear`. */
export type RecordedTraining = {
  readonly program: Program;
  /** T token ids, and the ids to be predicted after each: -1 where nothing is to be learned. */
  readonly tokens: Tensor;
  readonly targets: Tensor;
  /** The factor of the summed losses; the optimizer's settings. */
  readonly scale: Tensor;
  readonly settings: Tensor;
  /** (T, 1), of the two parts that make them. */
  readonly losses: { readonly gradients: Tensor; readonly losses: Tensor };
  /** [global norm of the gradients, factor by which they were clipped]. */
  readonly norm: Tensor;
  /** By Hugging Face name. */
  readonly parameters: ReadonlyMap<string, Parameter>;
};

export type Parameter = {
  readonly weight: Tensor;
  readonly gradient: Tensor;
  /** Moving averages of the gradient and of its square; Muon keeps the first alone. */
  readonly mean: Tensor;
  readonly square: Tensor | undefined;
};

/** Records the forward pass with a key/value cache. `dtypeOf` says how a matrix is kept; gains are f32. */
export function recordModel(config: ModelConfig, limits: Limits, dtypeOf: (name: string) => Dtype): RecordedModel {
  const r = createRecorder(limits);
  const weights = createWeights(r, config, dtypeOf);
  const tokens = r.tokens("tokens");
  const places = r.places();
  const [rows, targets] = [r.indices("rows"), r.indices("targets")];
  const angles = r.constant("angles", rotaryAngles(config, limits.positions), config.headSize);
  const caches: Tensor[] = [];
  const remember = (name: string, x: Tensor): Tensor => {
    const cache = r.cache(name, x.cols);
    caches.push(cache);
    return r.store(x, cache);
  };
  const x = recordBlocks(r, config, weights, { tokens, angles, places, remember });
  const picked = r.rmsnorm(r.pick(x, rows), weights.gain("model.norm.weight"), config.normEps); // (N, C)
  const product = r.linear(picked, headOf(config, weights)); // (N, V)
  const untilLogits = r.count();
  const scores = r.logProbability(product, targets);
  const { program, output: logits } = r.finish(product);
  const parts = new Map<string, Part>([
    ["logits", { start: 0, end: untilLogits }],
    ["scores", { start: 0, end: r.count() }],
  ]);
  const tensors = { tokens, places, rows, logits, targets, scores, caches };
  return { program: { ...program, parts }, weights: weights.known, ...tensors };
}

/**
 * Records a training step over rows of `limits.positions` tokens. With `recomputes`, activations within a block are made
 * again for its gradients rather than kept; with `hasMuon`, matrices other than embedding and head are Muon's.
 */
export function recordTraining(
  config: ModelConfig,
  limits: Limits,
  { recomputes, hasMuon }: { readonly recomputes: boolean; readonly hasMuon: boolean },
): RecordedTraining {
  const shared = createRecorder(limits, "training");
  const weights = createWeights(shared, config, () => "f32");
  const tokens = shared.tokens("tokens");
  const targets = shared.tokens("targets");
  const scale = shared.input("scale", 1, 1);
  const settings = shared.input("settings", OPTIMIZER_SETTINGS, 1);
  const angles = shared.constant("angles", rotaryAngles(config, limits.positions), config.headSize);

  /** Once to train and once to evaluate: what the first must keep, the second need not. */
  const recordLosses = (): { operations: readonly Operation[]; losses: Tensor; blocks: number[] } => {
    const r = createRecorder(limits, "training");
    const blocks: number[] = [];
    const onBlock = (): void => void blocks.push(r.count());
    const x = recordBlocks(r, config, weights, { tokens, angles, remember: (_, kept) => kept, onBlock });
    const normed = r.rmsnorm(x, weights.gain("model.norm.weight"), config.normEps);
    const { program, output } = r.finish(r.crossEntropy(normed, headOf(config, weights), targets));
    return { operations: program.operations, losses: output, blocks };
  };
  const forward = recordLosses();
  const evaluation = recordLosses();
  const { operations, gradients } = backward(forward.operations, {
    scale,
    ...(recomputes ? { recompute: forward.blocks } : {}),
  });

  const moment = (weight: Tensor, name: string): Tensor => ({
    ...weight,
    name: `${name} of ${weight.name}`,
    kind: "moment",
  });
  const parameters = new Map<string, Parameter>();
  for (const [name, weight] of weights.known) {
    const isMuons = hasMuon && (weight.rows as number) > 1 && name.startsWith("model.layers.");
    const square = isMuons ? undefined : moment(weight, "square");
    parameters.set(name, { weight, gradient: gradients.get(weight)!, mean: moment(weight, "mean"), square });
  }
  const { update, norm } = recordUpdate([...parameters.values()], settings);
  const clear = [...parameters.values()].map(({ gradient }): Operation => ({ op: "clear", out: gradient }));

  const lists = { gradients: operations, losses: evaluation.operations, update, clear };
  const parts = new Map<string, Part>();
  let start = 0;
  for (const [name, list] of Object.entries(lists)) {
    parts.set(name, { start, end: start + list.length });
    start += list.length;
  }
  const program = { limits, operations: Object.values(lists).flat(), parts };
  const losses = { gradients: forward.losses, losses: evaluation.losses };
  return { program, tokens, targets, scale, settings, losses, norm, parameters };
}

/** Clips by the global norm, then a step of every parameter: matrices decay, gains don't. */
function recordUpdate(parameters: readonly Parameter[], settings: Tensor): { update: Operation[]; norm: Tensor } {
  const countOf = ({ weight }: Parameter): number => Math.ceil(((weight.rows as number) * weight.cols) / SQUARES_CHUNK);
  const scratch = (name: string, rows: number, cols: number): Tensor => ({
    name,
    kind: "activation",
    dtype: "f32",
    rows,
    cols,
  });
  const chunks = parameters.reduce((sum, parameter) => sum + countOf(parameter), 0);
  const squares = scratch("squares", 1, chunks);
  const norm: Tensor = { name: "norm", kind: "output", dtype: "f32", rows: 1, cols: 2 };
  let at = 0;
  const sums = parameters.map((parameter): Operation => {
    const operation: Operation = { op: "squares", out: squares, gradient: parameter.gradient, at };
    at += countOf(parameter);
    return operation;
  });
  const steps = parameters.map((parameter): Operation => {
    const { weight, gradient, mean, square } = parameter;
    const [rows, cols] = [weight.rows as number, weight.cols];
    if (square) return { op: "adamw", out: weight, gradient, mean, square, norm, settings, decays: rows > 1 };
    const shorter = Math.min(rows, cols);
    return {
      op: "muon",
      out: weight,
      gradient,
      mean,
      norm,
      settings,
      update: scratch(`update of ${weight.name}`, rows, cols),
      squares: scratch(`squares of ${weight.name}`, 1, countOf(parameter)),
      next: scratch(`next of ${weight.name}`, rows, cols),
      gram: scratch(`gram of ${weight.name}`, shorter, shorter),
      polynomial: scratch(`polynomial of ${weight.name}`, shorter, shorter),
    };
  });
  return { update: [...sums, { op: "clip", out: norm, squares, settings }, ...steps], norm };
}

type Weights = {
  readonly matrix: (name: string, rows: number, cols: number) => Tensor;
  readonly gain: (name: string) => Tensor;
  readonly known: ReadonlyMap<string, Tensor>;
};

/** One tensor a name: a shared block's second application and a tied head get the first's. */
function createWeights(r: Recorder, { dim }: ModelConfig, dtypeOf: (name: string) => Dtype): Weights {
  const known = new Map<string, Tensor>();
  const once = (name: string, make: () => Tensor): Tensor => {
    const tensor = known.get(name) ?? make();
    known.set(name, tensor);
    return tensor;
  };
  return {
    matrix: (name, rows, cols) => once(name, () => r.weight(name, rows, cols, dtypeOf(name))),
    gain: (name) => once(name, () => r.gain(name, dim)),
    known,
  };
}

function headOf({ isTied, vocabSize, dim }: ModelConfig, weights: Weights): Tensor {
  return weights.matrix(isTied ? "model.embed_tokens.weight" : "lm_head.weight", vocabSize, dim);
}

type Surroundings = {
  readonly tokens: Tensor;
  readonly angles: Tensor;
  readonly places?: Tensor;
  /** Keys or values as attention shall find them: in a cache, or as they are. */
  readonly remember: (name: string, x: Tensor) => Tensor;
  readonly onBlock?: () => void;
};

/** Embedding and blocks; gives the residual stream (T, C) after the last. */
function recordBlocks(r: Recorder, config: ModelConfig, weights: Weights, surroundings: Surroundings): Tensor {
  const { dim, heads, kvHeads, headSize, hidden, vocabSize, normEps } = config;
  const { tokens, angles, places, remember, onBlock } = surroundings;
  const { matrix, gain } = weights;
  const slots = new Map<number, { keys: Tensor; values: Tensor }>();

  let x = r.embed(tokens, matrix("model.embed_tokens.weight", vocabSize, dim)); // (T, C)
  for (const { block, cacheSlot, writesCache } of createSchedule(config)) {
    onBlock?.();
    const name = (part: string): string => `model.layers.${block}.${part}.weight`;

    const normed = r.rmsnorm(x, gain(name("input_layernorm")), normEps);
    const q = r.rope(r.linear(normed, matrix(name("self_attn.q_proj"), heads * headSize, dim)), angles, places);
    if (writesCache) {
      const k = r.rope(r.linear(normed, matrix(name("self_attn.k_proj"), kvHeads * headSize, dim)), angles, places);
      const v = r.linear(normed, matrix(name("self_attn.v_proj"), kvHeads * headSize, dim));
      slots.set(cacheSlot, {
        keys: remember(`keys.${cacheSlot}`, k),
        values: remember(`values.${cacheSlot}`, v),
      });
    }
    const { keys, values } = slots.get(cacheSlot)!;
    const attended = r.attention(q, keys, values, headSize, places); // (T, H·D)
    x = r.add(x, r.linear(attended, matrix(name("self_attn.o_proj"), dim, heads * headSize)));

    x = r.add(x, feedForward(r.rmsnorm(x, gain(name("post_attention_layernorm")), normEps), name));
  }
  return x;

  function feedForward(normed: Tensor, name: (part: string) => string): Tensor {
    const up = r.linear(normed, matrix(name("mlp.up_proj"), hidden, dim)); // (T, F)
    const inner =
      config.activation === "swiglu"
        ? r.swiglu(r.linear(normed, matrix(name("mlp.gate_proj"), hidden, dim)), up)
        : r.relu(up);
    return r.linear(inner, matrix(name("mlp.down_proj"), dim, hidden));
  }
}

/** Half cosines, half sines of position · θ^(-2i/D) (RoPE, arXiv 2104.09864), rounded to f32 where transformers rounds. */
function rotaryAngles(config: ModelConfig, positions: number): Float32Array {
  const half = config.headSize / 2;
  const table = new Float32Array(positions * config.headSize);
  for (let i = 0; i < half; i++) {
    const frequency = Math.fround(1 / Math.fround(config.ropeTheta ** ((2 * i) / config.headSize)));
    for (let position = 0; position < positions; position++) {
      const angle = Math.fround(position * frequency);
      table[position * config.headSize + i] = Math.cos(angle);
      table[position * config.headSize + half + i] = Math.sin(angle);
    }
  }
  return table;
}
