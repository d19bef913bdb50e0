/**
 * Shapes under a parameter budget, the paper's way: deep and thin, grouped-query attention, tied embedding.
 */
import { checkConfig, countParameters, feedForwardWidth, type ModelConfig, presets } from "../model/config.ts";

export type ShapeRequest = {
  /** Most parameters, norms included. */
  readonly parameters: number;
  /** Fixes the depth; else depth follows from each width. */
  readonly layers?: number;
  /** Default 32000. */
  readonly vocabSize?: number;
  /** Default 64, and 32 below 50 M parameters. */
  readonly headSize?: number;
  /** Default true. */
  readonly isTied?: boolean;
  /** Most candidates; default 5. */
  readonly limit?: number;
};

/** Width over depth of the paper's models lies between 19 (125M) and 30; candidates nearest to this come first. */
const USUAL_ASPECT = 24;
const SMALL_MODEL = 50e6;
const MOST_LAYERS = 128;

/** @throws {RangeError} if nothing fits; the vocabulary is then usually what is too large. */
export function suggestShapes(request: ShapeRequest): ModelConfig[] {
  const { parameters, layers } = request;
  if (!(parameters > 0)) throw new RangeError(`design.parameters: must be positive, got ${parameters}.`);
  const headSize = request.headSize ?? (parameters < SMALL_MODEL ? 32 : 64);
  const shared = { vocabSize: request.vocabSize ?? 32000, headSize, isTied: request.isTied ?? true };
  checkConfig(createShape({ ...shared, heads: 1, layers: layers ?? 1 }));

  const found: ModelConfig[] = [];
  for (let heads = 1; ; heads++) {
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
      `design.parameters: no shape${depth} fits ${parameters} at a vocabulary of ${shared.vocabSize}. Allow more, or choose a smaller vocabulary.`,
    );
  }
  // At a fixed depth the widest spends the budget best; else the one shaped most like the paper's models.
  const offUsual = (shape: ModelConfig): number => Math.abs(Math.log(shape.dim / shape.layers / USUAL_ASPECT));
  found.sort((a, b) => (layers === undefined ? offUsual(a) - offUsual(b) : b.dim - a.dim));
  return found.slice(0, request.limit ?? 5);
}

type Choice = Pick<ModelConfig, "layers" | "heads" | "headSize" | "vocabSize" | "isTied">;

function createShape(choice: Choice): ModelConfig {
  const dim = choice.heads * choice.headSize;
  return { ...presets["125M"], ...choice, dim, kvHeads: chooseKvHeads(choice.heads), hidden: feedForwardWidth(dim) };
}

/** The divisor of `heads` nearest to a third of it: 9 → 3, 20 → 5, 25 → 5, as in the paper's models. */
export function chooseKvHeads(heads: number): number {
  const divisors = Array.from({ length: heads }, (_, i) => i + 1).filter((n) => heads % n === 0);
  return divisors.reduce((best, n) => (Math.abs(n - heads / 3) < Math.abs(best - heads / 3) ? n : best));
}
