/**
 * A checkpoint onto a device: the program is recorded and its memory planned first; then the weights go over piece by
 * piece, so that no more than the model and one piece is ever in memory.
 */
import { FormatError } from "../errors.ts";
import type { Backend, Machine } from "../backends/backend.ts";
import type { Checkpoint, TensorEntry } from "../formats/checkpoint.ts";
import type { Tensor } from "../program/operation.ts";
import { maxRows } from "../program/program.ts";
import { type Dtype, ROW_BLOCK } from "../tensor/dtype.ts";
import { type Encoding, rowBytes } from "../tensor/encoding.ts";
import { checkConfig, fromHfConfig, type ModelConfig, type Sharing } from "./config.ts";
import { type RecordedModel, recordModel } from "./mobilellm.ts";

export type LoadOptions = {
  /** How matrices are kept. Default: as the file has them where we have such a dtype, else `q8`. */
  readonly dtype?: Dtype | undefined;
  /** Layer sharing. Default: the config's. */
  readonly sharing?: Sharing | undefined;
  /** Positions of the key/value cache. Default: the model's own, at most 2048. */
  readonly contextLength?: number | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
};

export type LoadProgress = { readonly loadedBytes: number; readonly totalBytes: number };

export type LoadedModel = {
  readonly config: ModelConfig;
  readonly dtype: Dtype;
  readonly recorded: RecordedModel;
  readonly machine: Machine;
};

/** Tokens of one replay: so many that reading the weights hardly counts, few enough for a cancel where memory is not shared. */
const MAX_TOKENS = 128;
/** Rows of logits of one replay: most of those that are scored. 90 × 49,152 × 4 bytes are 18 MB. */
const MAX_OUTPUTS = 90;
/** Of one upload. */
const PIECE_BYTES = 1 << 20;
const DEFAULT_CONTEXT = 2048;

export async function loadCheckpoint(
  checkpoint: Checkpoint,
  backend: Backend,
  options: LoadOptions,
): Promise<LoadedModel> {
  const fromFile = fromHfConfig(checkpoint.config);
  const config = { ...fromFile, sharing: options.sharing ?? fromFile.sharing };
  checkConfig(config);
  const positions = options.contextLength ?? Math.min(config.contextLength, DEFAULT_CONTEXT);
  if (!Number.isInteger(positions) || positions < 2 || positions > config.contextLength) {
    throw new RangeError(
      `contextLength: expected a whole number from 2 to ${config.contextLength} (the model's own), got ${positions}.`,
    );
  }
  const tokens = Math.min(MAX_TOKENS, positions);
  const limits = { tokens, outputs: Math.min(MAX_OUTPUTS, tokens), positions };
  const dtypeOf = (name: string): Dtype => chooseDtype(name, entryOf(checkpoint, name).encoding, options.dtype);
  const recorded = recordModel(config, limits, dtypeOf);
  const machine = await backend.open(recorded.program);
  try {
    await uploadWeights(checkpoint, recorded, machine, options);
  } catch (error) {
    await machine.dispose();
    throw error;
  }
  return { config, dtype: options.dtype ?? dtypeOf("model.layers.0.mlp.up_proj.weight"), recorded, machine };
}

function entryOf(checkpoint: Checkpoint, name: string): TensorEntry {
  const entry = checkpoint.tensors.get(name);
  if (!entry) throw new FormatError(`${checkpoint.name}: tensor ${name} is required and missing. Download it again.`);
  return entry;
}

/** In `q4` the embedding and the head keep 8 bits: they are a model's most sensitive matrices, and few. */
function chooseDtype(name: string, encoding: Encoding, wanted: Dtype | undefined): Dtype {
  if (wanted) return wanted === "q4" && isVocabularyMatrix(name) ? "q8" : wanted;
  switch (encoding) {
    case "F32":
      return "f32";
    case "BF16":
      return "bf16";
    case "Q4_0":
    case "Q4_1":
      return "q4";
    default:
      return "q8";
  }
}

function isVocabularyMatrix(name: string): boolean {
  return name === "model.embed_tokens.weight" || name === "lm_head.weight";
}

async function uploadWeights(
  checkpoint: Checkpoint,
  recorded: RecordedModel,
  machine: Machine,
  { onProgress, signal }: LoadOptions,
): Promise<void> {
  const entries = [...recorded.weights].map(([name, tensor]) => ({ tensor, entry: entryOf(checkpoint, name) }));
  const totalBytes = entries.reduce((sum, { entry }) => sum + entry.byteLength, 0);
  let loadedBytes = 0;
  let spare = new Uint8Array(PIECE_BYTES); // goes to the device and back
  for (const { tensor, entry } of entries) {
    checkShape(checkpoint, entry, tensor, recorded);
    for (const piece of piecesOf(entry, tensor.cols)) {
      signal?.throwIfAborted();
      const bytes = await readPiece(entry, tensor.cols, piece, spare);
      loadedBytes += bytes.length;
      try {
        const given = await machine.upload(tensor, piece.start, piece.count, entry.encoding, bytes);
        spare = new Uint8Array(given.buffer);
      } catch (error) {
        if (!(error instanceof FormatError)) throw error;
        throw new FormatError(`${entry.source.name}: tensor ${entry.name} (at byte ${entry.offset}): ${error.message}`);
      }
      onProgress?.({ loadedBytes, totalBytes });
    }
  }
}

function checkShape(checkpoint: Checkpoint, entry: TensorEntry, tensor: Tensor, recorded: RecordedModel): void {
  const rows = maxRows(tensor, recorded.program.limits);
  const expected = entry.shape.length === 1 ? [tensor.cols] : [rows, tensor.cols];
  if (entry.shape.join() === expected.join() && (entry.shape.length === 2 || rows === 1)) return;
  throw new FormatError(
    `${checkpoint.name}: tensor ${entry.name} must be (${rows}, ${tensor.cols}), got (${entry.shape.join(", ")}). Is the config from another model?`,
  );
}

type Piece = { readonly start: number; readonly count: number };

/** Whole blocks of rows of at most a megabyte. */
function* piecesOf(entry: TensorEntry, cols: number): Generator<Piece> {
  const bytesPerRow = rowBytes(entry.encoding, cols);
  const rows = entry.byteLength / bytesPerRow;
  const blocks = Math.max(1, Math.floor(PIECE_BYTES / bytesPerRow / ROW_BLOCK));
  const step = blocks * ROW_BLOCK;
  for (let start = 0; start < rows; start += step) yield { start, count: Math.min(step, rows - start) };
}

/** Into `spare` where it is large enough. */
async function readPiece(
  entry: TensorEntry,
  cols: number,
  { start, count }: Piece,
  spare: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytesPerRow = rowBytes(entry.encoding, cols);
  const length = count * bytesPerRow;
  const bytes = length <= spare.length ? spare.subarray(0, length) : new Uint8Array(length);
  await entry.source.read(entry.offset + start * bytesPerRow, bytes);
  return bytes;
}
