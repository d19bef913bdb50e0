/**
 * A training step as programs over one set of weights: `accumulate` (forward and backward) adds to the gradients, `reduce` makes their global
 * norm, `update` steps the weights and clears the gradients; `losses` is the forward pass alone.
 */
import { countChunks, OPTIMIZER_SETTINGS } from "../kernels/adamw/adamw.ts";
import { fixedCount } from "../kernels/operation.ts";
import type { ModelConfig } from "../model/config.ts";
import { headName, recordForward, rotaryAngles } from "../model/mobilellm.ts";
import { backward } from "../program/backward.ts";
import type { Program } from "../program/program.ts";
import { constant, createRecorder, ids, input } from "../program/recorder.ts";
import type { Limits, Tensor } from "../tensor/tensor.ts";

/** A weight that is trained. */
export type Parameter = {
  readonly weight: Tensor;
  readonly gradient: Tensor;
  /** Moving averages of the gradient and of its square; Muon keeps the first alone. */
  readonly mean: Tensor;
  readonly square: Tensor | undefined;
};

/**
 * Makes what each weight is trained with, by Hugging Face name. With `hasMuon`, matrices other than embedding and head are Muon's.
 * @param trains false for a weight that stays as it is.
 */
export function createParameters(
  weights: ReadonlyMap<string, Tensor>,
  hasMuon: boolean,
  trains: (name: string) => boolean,
): Map<string, Parameter> {
  const twin = (weight: Tensor, kind: Tensor["kind"], what: string): Tensor => ({
    ...weight,
    kind,
    name: `${what} of ${weight.name}`,
  });
  return new Map(
    Array.from(weights)
      .filter(([name]) => trains(name))
      .map(([name, weight]) => {
        const isMuons = hasMuon && weight.rows !== 1 && name.startsWith("model.layers.");
        const square = isMuons ? undefined : twin(weight, "moment", "square");
        const gradient = twin(weight, "gradient", "gradient");
        return [name, { weight, gradient, mean: twin(weight, "moment", "mean"), square }];
      }),
  );
}

/** Programs over rows of tokens: both read `tokens` and `targets`, -1 where nothing is to be learned. */
export type RowPrograms = {
  readonly limits: Limits;
  readonly tokens: Tensor;
  readonly targets: Tensor;
  /** (1, 1): the factor of the summed losses, of `accumulate`. */
  readonly scale: Tensor;
  readonly accumulate: RowProgram;
  readonly losses: RowProgram;
};

/** `output` (T, 1): the loss of each token. */
export type RowProgram = { readonly program: Program; readonly output: Tensor };

/**
 * Over rows of `limits.positions` tokens. With `recomputes`, activations within a block are made again for its gradients rather
 * than kept.
 */
export function recordRows(
  config: ModelConfig,
  weights: ReadonlyMap<string, Tensor>,
  parameters: ReadonlyMap<string, Parameter>,
  limits: Limits,
  recomputes: boolean,
): RowPrograms {
  const [tokens, targets, scale] = [ids("tokens", "tokens"), ids("targets", "tokens"), input("scale", 1, 1)];
  const angles = constant("angles", rotaryAngles(config, limits.positions), config.headSize);
  const weight = (name: string): Tensor => weights.get(name)!;

  const recordLosses = (): RowProgram & { readonly blocks: number[] } => {
    const r = createRecorder(limits);
    const blocks: number[] = [];
    const onBlock = (): void => void blocks.push(r.operations.length);
    const x = recordForward(r, config, { weight, tokens, angles, onBlock });
    return { ...r.finish({ output: r.crossEntropy({ x, weight: weight(headName(config)), targets }) }), blocks };
  };
  // Once to train and once to evaluate: what the first must keep, the second need not.
  const forward = recordLosses();
  const losses = recordLosses();
  const gradients = new Map(Array.from(parameters.values(), ({ weight, gradient }) => [weight, gradient]));
  const operations = backward(forward.program.operations, {
    scale,
    gradientOf: (weight) => gradients.get(weight),
    ...(recomputes ? { recompute: forward.blocks } : {}),
  });
  return {
    limits,
    tokens,
    targets,
    scale,
    accumulate: { program: { limits, operations }, output: forward.output },
    losses,
  };
}

/** Programs over all parameters at once; `reduce` and `update` read `settings` (kernels/adamw). */
export type UpdatePrograms = {
  readonly settings: Tensor;
  /** [global norm of the gradients, factor by which they are clipped]: written by `reduce`, read by `update`. */
  readonly norm: Tensor;
  readonly reduce: Program;
  readonly update: Program;
  readonly clear: Program;
};

const NO_ROWS: Limits = { tokens: 0, outputs: 0, positions: 0 };

/** Matrices decay, gains don't. */
export function recordUpdate(parameters: readonly Parameter[]): UpdatePrograms {
  const settings = input("settings", OPTIMIZER_SETTINGS, 1);
  const norm: Tensor = { name: "norm", kind: "moment", dtype: "f32", rows: 1, cols: 2 };
  const [reduce, update, clear] = [createRecorder(NO_ROWS), createRecorder(NO_ROWS), createRecorder(NO_ROWS)];
  const chunksOf = ({ weight }: Parameter): number => countChunks(fixedCount(weight));
  const chunks = parameters.reduce((sum, parameter) => sum + chunksOf(parameter), 0);
  const sums: Tensor = { name: "squares", kind: "activation", dtype: "f32", rows: 1, cols: chunks };
  let at = 0;
  for (const parameter of parameters) {
    const { weight, gradient, mean, square } = parameter;
    reduce.squares({ sums, gradient, at });
    at += chunksOf(parameter);
    clear.clear({ gradient });
    if (square) update.adamw({ weight, gradient, mean, square, norm, settings, decays: weight.rows === 1 ? 0 : 1 });
    else update.muon({ weight, gradient, mean, norm, settings });
  }
  reduce.clip({ norm, squares: sums, settings });
  return {
    settings,
    norm,
    reduce: reduce.finish({}).program,
    update: update.finish({}).program,
    clear: clear.finish({}).program,
  };
}
