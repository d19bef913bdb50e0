/**
 * What a shape costs before anyone trains or runs it: parameters, bytes, arithmetic, energy. Pure numbers from a config.
 */
import { countParameters, type ModelConfig, type ParameterCount, tensorsOf } from "../model/config.ts";
import { keptAs } from "../model/kept-as.ts";
import { countCacheSlots, createSchedule } from "../model/schedule.ts";
import { type Dtype, packedBytes } from "../tensor/dtype.ts";

/** What a phone's battery lasts for. */
export type Energy = {
  readonly joulesPerToken: number;
  readonly tokensPerCharge: number;
  readonly hoursAtTenTokensPerSecond: number;
};

/** What a shape costs. */
export type ModelDescription = {
  readonly parameters: ParameterCount;
  /** Blocks executed for a token; more than `layers` when blocks are shared. */
  readonly applications: number;
  /** Bytes of all weights in a backend's memory. `bf16` is also the size of an f16 file, but for the norms, where rows come in eights. */
  readonly weightBytes: Readonly<Record<Dtype, number>>;
  /** Bytes of the keys and values of one position, with each application keeping its own or reading the block's first. */
  readonly cacheBytesPerToken: Readonly<Record<"own" | "first", { readonly f32: number; readonly f16: number }>>;
  /** FLOP of a token, two per multiply-add of every applied matrix, the head included; attention scores apart. */
  readonly flopsPerToken: number;
  /** FLOP of scores and weighted values for each position that a token looks back at. */
  readonly attentionFlopsPerPosition: number;
  readonly energy: Energy;
};

/**
 * Computes everything that `mobilellm info` says about a shape. MobileLLM-125M: 0.249 GFLOP a token, 23,040 f16 cache bytes.
 * @example const { weightBytes, flopsPerToken } = describeModel(presets["125M"]);
 */
export function describeModel(config: ModelConfig): ModelDescription {
  const parameters = countParameters(config);
  const applications = createSchedule(config).length;
  const blockMatrices = (parameters.attention + parameters.feedForward) / config.layers;
  return {
    parameters,
    applications,
    weightBytes: {
      f32: estimateWeightBytes(config, "f32"),
      bf16: estimateWeightBytes(config, "bf16"),
      q8: estimateWeightBytes(config, "q8"),
      q4: estimateWeightBytes(config, "q4"),
    },
    cacheBytesPerToken: { own: cacheBytes(config, "own"), first: cacheBytes(config, "first") },
    flopsPerToken: 2 * (applications * blockMatrices + config.vocabSize * config.dim),
    attentionFlopsPerPosition: applications * 4 * config.heads * config.headSize,
    energy: estimateEnergy(parameters.total),
  };
}

/** Computes the bytes of all weights in a backend's memory. In `q4` embedding and head stay q8; norm gains are f32 in every dtype. */
export function estimateWeightBytes(config: ModelConfig, dtype: Dtype): number {
  const sizes = tensorsOf(config).map(({ name, shape: [rows, cols] }) =>
    cols === undefined ? 4 * rows : packedBytes(keptAs(name, dtype), rows, cols),
  );
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

function cacheBytes(config: ModelConfig, cache: "own" | "first"): { f32: number; f16: number } {
  const slots = countCacheSlots(createSchedule({ layers: config.layers, sharing: { ...config.sharing, cache } }));
  const numbers = slots * 2 * config.kvHeads * config.headSize;
  return { f32: 4 * numbers, f16: 2 * numbers };
}

const JOULES_PER_TOKEN_PER_BILLION = 0.1;
const BATTERY_JOULES = 50_000;

/** Estimates energy as the paper does (section 1): 0.1 J a token per billion stored parameters, a phone's battery of 50 kJ. */
export function estimateEnergy(parameters: number): Energy {
  const joulesPerToken = (JOULES_PER_TOKEN_PER_BILLION * parameters) / 1e9;
  const tokensPerCharge = BATTERY_JOULES / joulesPerToken;
  return { joulesPerToken, tokensPerCharge, hoursAtTenTokensPerSecond: tokensPerCharge / 10 / 3600 };
}
