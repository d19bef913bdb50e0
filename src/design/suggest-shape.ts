/**
 * Shapes under a parameter budget, the paper's way (section 3): deep and thin, grouped-query attention, tied embedding.
 */
import * as o from "../options.ts";
import { checkConfig, countParameters, feedForwardWidth, type ModelConfig, presets } from "../model/config.ts";

/** The budget, and what is given of the shape. */
export type ShapeRequest = {
  /** The most parameters, norms included. */
  readonly parameters: number;
  /** Fixes the depth; else depth follows from each width. */
  readonly layers?: number | undefined;
  /** Tokens of the vocabulary. Default: 32000. */
  readonly vocabSize?: number | undefined;
  /** Size of an attention head. Default: 64, and 32 below 50 M parameters. */
  readonly headSize?: number | undefined;
  /** Whether one matrix serves as embedding and head. Default: true. */
  readonly isTied?: boolean | undefined;
  /** The most shapes to suggest. Default: 5. */
  readonly limit?: number | undefined;
};

type ShapeSettings = ShapeRequest & o.Filled<Pick<ShapeRequest, "vocabSize" | "isTied" | "limit">>;

const requestSchema: o.Schema<ShapeRequest, ShapeSettings> = o.object<ShapeRequest, ShapeSettings>({
  parameters: o.positive,
  layers: o.optional(o.count),
  vocabSize: o.withDefault(o.count, 32000),
  headSize: o.optional(o.count),
  isTied: o.withDefault(o.flag, true),
  limit: o.withDefault(o.count, 5),
});

const SMALL_MODEL = 50e6;
const MOST_LAYERS = 128;
/** Query heads for a key/value head: the paper's models have 3 to 5, and fewer key/value heads cost accuracy (Table 13). */
const MOST_QUERIES_PER_KEY = 5;

/**
 * Gives the depth that suits a width: the line through the paper's five models (576 → 30, 960 → 32, 1152 → 40, 1280 → 54,
 * 1600 → 54; least squares). It agrees with the depth sweep of Tables 11 and 12, beyond the models it is drawn through:
 * at width 0 it asks for 12 layers, and the paper found fewer than 10 bad; accuracy levels off at 28 to 32 layers for
 * 125M and 350M, so that deeper only costs time and cache, while shallower costs accuracy.
 */
export function usualDepth(dim: number): number {
  return 12 + dim / 37;
}

/**
 * Finds for each width the deepest model within the budget, those of usual depth first; so the vocabulary, whose rows cost
 * a width each, decides how wide a small model may be. At a fixed depth, the widest first.
 * @example const [shape] = suggestShapes({ parameters: 125e6 });
 * @throws {RangeError} if nothing fits; the vocabulary is then usually what is too large.
 */
export function suggestShapes(request: ShapeRequest): ModelConfig[] {
  const settings = o.check("suggestShapes", requestSchema, request);
  const { parameters, layers, vocabSize, isTied, limit, headSize = parameters < SMALL_MODEL ? 32 : 64 } = settings;
  const shared = { vocabSize, headSize, isTied };
  checkConfig(createShape({ ...shared, heads: 1, layers: layers ?? 1 }));

  const found: ModelConfig[] = [];
  for (let heads = 1; ; heads++) {
    if (heads / chooseKvHeads(heads) > MOST_QUERIES_PER_KEY) continue; // 7, 13, 17: only one key/value head, or no sharing
    const one = countParameters(createShape({ ...shared, heads, layers: 1 }));
    if (one.total > parameters) break;
    const block = one.attention + one.feedForward + 2 * heads * headSize;
    const fitting = Math.min(MOST_LAYERS, 1 + Math.floor((parameters - one.total) / block));
    if (layers === undefined || layers <= fitting) {
      found.push(createShape({ ...shared, heads, layers: layers ?? fitting }));
    }
  }
  if (found.length === 0) {
    const depth = layers === undefined ? "" : ` with ${layers} layers`;
    throw new RangeError(
      `design.parameters: no shape${depth} fits ${parameters} at a vocabulary of ${vocabSize}. Allow more, or choose a smaller vocabulary.`,
    );
  }
  const offUsual = (shape: ModelConfig): number => Math.abs(Math.log(shape.layers / usualDepth(shape.dim)));
  found.sort((a, b) => (layers === undefined ? offUsual(a) - offUsual(b) : b.dim - a.dim));
  return found.slice(0, limit);
}

type Choice = Pick<ModelConfig, "layers" | "heads" | "headSize" | "vocabSize" | "isTied">;

function createShape(choice: Choice): ModelConfig {
  const dim = choice.heads * choice.headSize;
  return { ...presets["125M"], ...choice, dim, kvHeads: chooseKvHeads(choice.heads), hidden: feedForwardWidth(dim) };
}

/** Gives the divisor of `heads` nearest to a third of it: 9 → 3, 20 → 5, 25 → 5, as in the paper's models. */
export function chooseKvHeads(heads: number): number {
  const divisors = Array.from({ length: heads }, (_, i) => i + 1).filter((n) => heads % n === 0);
  return divisors.reduce((best, n) => (Math.abs(n - heads / 3) < Math.abs(best - heads / 3) ? n : best));
}
