/** The names that both entries of mobilellm export. */
export { BackendError, FormatError, ShapeError } from "../../errors.ts";
export type { Device, MemoryReport } from "../../backends/backend.ts";
export type { Checkpoint, TensorEntry } from "../../formats/checkpoint.ts";
export type { ModelBytes } from "../../formats/open-bytes.ts";
export type { GenerateOptions, Generation, GenerationPiece, GenerationResult } from "../../inference/generate.ts";
export type { Model } from "../../inference/model.ts";
export { createSampler, type Sampler, type SamplerOptions } from "../../inference/sampler.ts";
export type { Perplexity, PerplexityOptions, Score, ScoreRequest } from "../../inference/score.ts";
export type { Session } from "../../inference/session.ts";
export {
  countParameters,
  feedForwardWidth,
  type ModelConfig,
  type ParameterCount,
  type PresetName,
  presets,
  type Sharing,
} from "../../model/config.ts";
export type { LoadOptions, LoadProgress } from "../../model/load.ts";
export type { ModelOptions } from "../../edge/open-model.ts";
export type { Dtype } from "../../tensor/dtype.ts";
export type { ChatMessage } from "../../tokenizer/chat-template.ts";
export { createTokenizer, type TokenizerSource } from "../../tokenizer/create-tokenizer.ts";
export type { Tokenizer } from "../../tokenizer/tokenizer.ts";
