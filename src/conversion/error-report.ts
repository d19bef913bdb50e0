/** How far written weights are from those that were read. */
import { elementCount } from "../formats/checkpoint.ts";
import { type ConvertedTensor, convertTensor, type PlannedTensor } from "./plan.ts";

/** How far one tensor is from what it was. */
export type TensorError = ConvertedTensor & {
  /** The relative root mean square error √(Σ(after − before)² / Σ before²); 0 for a tensor of zeros that stays so. */
  readonly relativeRmsError: number;
  /** The largest |after − before|. */
  readonly maxError: number;
  /** Bits that a weight takes in the file, scales included. */
  readonly bitsPerWeight: number;
};

/** How far all tensors are from what they were. */
export type ErrorReport = {
  readonly tensors: readonly TensorError[];
  /** The error over all weights together. */
  readonly total: Pick<TensorError, "relativeRmsError" | "maxError" | "bitsPerWeight">;
};

/** Converts tensors, and keeps what they lose. */
export type ErrorMeter = {
  /** Converts as `convertTensor` does, and compares what it wrote with what it read. */
  readonly convert: (tensor: PlannedTensor) => Promise<Uint8Array>;
  report(): ErrorReport;
};

type Sums = { weights: number; bytes: number; squares: number; squaredErrors: number; maxError: number };

/** Makes a meter that collects the errors of tensor after tensor. */
export function createErrorMeter(): ErrorMeter {
  const tensors: TensorError[] = [];
  const total = emptySums();
  return {
    async convert(tensor) {
      const { name, shape, encoding, source } = tensor;
      const sums = emptySums();
      const bytes = await convertTensor(tensor, (before, after) => compare(before, after, sums));
      sums.weights = elementCount(shape);
      sums.bytes = bytes.length;
      tensors.push({ name, shape, from: source.encoding, to: encoding, ...errorsOf(sums) });
      total.weights += sums.weights;
      total.bytes += sums.bytes;
      total.squares += sums.squares;
      total.squaredErrors += sums.squaredErrors;
      total.maxError = Math.max(total.maxError, sums.maxError);
      return bytes;
    },
    report: () => ({ tensors, total: errorsOf(total) }),
  };
}

function compare(before: Float32Array, after: Float32Array, sums: Sums): void {
  for (let i = 0; i < before.length; i++) {
    const error = Math.abs(after[i]! - before[i]!);
    sums.squares += before[i]! ** 2;
    sums.squaredErrors += error ** 2;
    sums.maxError = Math.max(sums.maxError, error);
  }
}

function emptySums(): Sums {
  return { weights: 0, bytes: 0, squares: 0, squaredErrors: 0, maxError: 0 };
}

function errorsOf({ weights, bytes, squares, squaredErrors, maxError }: Sums): ErrorReport["total"] {
  return {
    relativeRmsError: squaredErrors === 0 ? 0 : Math.sqrt(squaredErrors / squares),
    maxError,
    bitsPerWeight: (8 * bytes) / weights,
  };
}
