/**
 * A checkpoint onto a device: programs are prepared and their memory planned first; then the weights go over piece by
 * piece, so that no more than the model and one piece is ever in memory.
 */
import { FormatError } from "../errors.ts";
import type { Backend, Machine } from "../backends/backend.ts";
import type { Checkpoint, TensorEntry } from "../formats/checkpoint.ts";
import { fixedRows } from "../kernels/operation.ts";
import { weight } from "../program/recorder.ts";
import type { Tensor } from "../tensor/tensor.ts";
import type { Dtype } from "../tensor/dtype.ts";
import { type Encoding, rowBytes } from "../tensor/encoding.ts";
import { checkConfig, fromHfConfig, type ModelConfig, type Sharing, tensorsOf } from "./config.ts";
import { keptAs } from "./kept-as.ts";

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

/** A model's weights on a device, which any number of programs share. */
export type LoadedModel = {
  readonly config: ModelConfig;
  /** How matrices are kept; a file may mix several, then that of the feed-forward. */
  readonly dtype: Dtype;
  /** Positions that a text may have. */
  readonly contextLength: number;
  readonly weights: ReadonlyMap<string, Tensor>;
  readonly machine: Machine;
  /** Counts the changes of the weights by training. */
  readonly version: { current: number };
};

/** Bytes of one upload. */
const PIECE_BYTES = 1 << 20;
/** Positions that are planned for a model that could take more. */
export const DEFAULT_CONTEXT = 2048;

/**
 * @param prepare makes the programs that will run first, so that their memory is planned, and refused, before weights are read.
 * @throws {FormatError} for damaged files, {RangeError} for options out of range, {BackendError} if memory is short.
 */
export async function loadCheckpoint<P>(
  checkpoint: Checkpoint,
  backend: Backend,
  options: LoadOptions,
  prepare: (loaded: LoadedModel) => Promise<P>,
): Promise<P> {
  const fromFile = fromHfConfig(checkpoint.config);
  const config = { ...fromFile, sharing: options.sharing ?? fromFile.sharing };
  checkConfig(config);
  const contextLength = options.contextLength ?? Math.min(config.contextLength, DEFAULT_CONTEXT);
  if (!Number.isInteger(contextLength) || contextLength < 2 || contextLength > config.contextLength) {
    throw new RangeError(
      `contextLength: expected a whole number from 2 to ${config.contextLength} (the model's own), got ${contextLength}.`,
    );
  }
  const dtypeOf = (name: string): Dtype => chooseDtype(name, entryOf(checkpoint, name).encoding, options.dtype);
  const weights = createWeights(config, dtypeOf);
  const machine = await backend.open();
  try {
    const dtype = options.dtype ?? dtypeOf("model.layers.0.mlp.up_proj.weight");
    const prepared = await prepare({ config, dtype, contextLength, weights, machine, version: { current: 0 } });
    await uploadWeights(checkpoint, weights, machine, options);
    return prepared;
  } catch (error) {
    await machine.dispose();
    throw error;
  }
}

/** A tensor for each of a model's: matrices as `dtypeOf` says, gains in f32. */
export function createWeights(config: ModelConfig, dtypeOf: (name: string) => Dtype): Map<string, Tensor> {
  return new Map(
    tensorsOf(config).map(({ name, shape: [rows, cols] }) => [
      name,
      cols === undefined ? weight(name, 1, rows) : weight(name, rows, cols, dtypeOf(name)),
    ]),
  );
}

function entryOf(checkpoint: Checkpoint, name: string): TensorEntry {
  const entry = checkpoint.tensors.get(name);
  if (!entry) throw new FormatError(`${checkpoint.name}: tensor ${name} is required and missing. Download it again.`);
  return entry;
}

function chooseDtype(name: string, encoding: Encoding, wanted: Dtype | undefined): Dtype {
  if (wanted) return keptAs(name, wanted);
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

async function uploadWeights(
  checkpoint: Checkpoint,
  weights: ReadonlyMap<string, Tensor>,
  machine: Machine,
  { onProgress, signal }: LoadOptions,
): Promise<void> {
  const entries = [...weights].map(([name, tensor]) => ({ tensor, entry: entryOf(checkpoint, name) }));
  const totalBytes = entries.reduce((sum, { entry }) => sum + entry.byteLength, 0);
  let loadedBytes = 0;
  let spare = new Uint8Array(PIECE_BYTES); // goes to the device and back
  for (const { tensor, entry } of entries) {
    checkShape(checkpoint, entry, tensor);
    const bytesPerRow = rowBytes(entry.encoding, tensor.cols);
    for (const piece of piecesOf(fixedRows(tensor), bytesPerRow, machine.uploadStep)) {
      signal?.throwIfAborted();
      const bytes = await readPiece(entry, bytesPerRow, piece, spare);
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

function checkShape(checkpoint: Checkpoint, entry: TensorEntry, tensor: Tensor): void {
  const rows = fixedRows(tensor);
  const expected = entry.shape.length === 1 ? [tensor.cols] : [rows, tensor.cols];
  if (entry.shape.join() === expected.join() && (entry.shape.length === 2 || rows === 1)) return;
  throw new FormatError(
    `${checkpoint.name}: tensor ${entry.name} must be (${rows}, ${tensor.cols}), got (${entry.shape.join(", ")}). Is the config from another model?`,
  );
}

type Piece = { readonly start: number; readonly count: number };

/** Rows in pieces of about a megabyte each, and begun where the device takes them: at multiples of `uploadStep` rows. */
export function* piecesOf(rows: number, bytesPerRow: number, uploadStep: number): Generator<Piece> {
  const step = uploadStep * Math.max(1, Math.floor(PIECE_BYTES / bytesPerRow / uploadStep));
  for (let start = 0; start < rows; start += step) yield { start, count: Math.min(step, rows - start) };
}

/** Into `spare` where it is large enough. */
async function readPiece(
  entry: TensorEntry,
  bytesPerRow: number,
  { start, count }: Piece,
  spare: Uint8Array<ArrayBuffer>,
): Promise<Uint8Array<ArrayBuffer>> {
  const length = count * bytesPerRow;
  const bytes = length <= spare.length ? spare.subarray(0, length) : new Uint8Array(length);
  await entry.source.read(entry.offset + start * bytesPerRow, bytes);
  return bytes;
}
