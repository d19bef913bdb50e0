/** What programs compute with: matrices that have a name, a shape and a way of living. Where and how they lie is a backend's choice. */
import type { Dtype } from "./dtype.ts";

/** A number of rows: fixed, or one of the numbers that a replay brings. */
export type Extent = number | "tokens" | "outputs";

export type TensorKind =
  /** Learned. All programs over it share it; one that writes it trains it. */
  | "weight"
  /** Computed when recording, the same for every replay. */
  | "constant"
  /** Keys and values by position, and where they stand; survives from replay to replay. */
  | "cache"
  /** Sums over replays, as large as its weight, until the optimizer clears it. */
  | "gradient"
  /** The optimizer's; survives from replay to replay. */
  | "moment"
  /** Written by the caller with a replay. */
  | "input"
  /** Read by the caller with a replay. */
  | "output"
  /** Lives between the operation that makes it and the last that reads it. */
  | "activation";

/** A matrix of `rows` × `cols`; identity is the object itself. */
export type Tensor = {
  readonly name: string;
  readonly kind: TensorKind;
  readonly dtype: Dtype | "i32";
  readonly rows: Extent;
  readonly cols: number;
  /** The values of a constant, row by row. */
  readonly values?: Float32Array;
};

/** The most that a replay's numbers may reach; memory is planned for these. */
export type Limits = {
  /** T: rows of most activations. */
  readonly tokens: number;
  /** N: rows that reach the head. */
  readonly outputs: number;
  /** Rows of a cache, or of the longest sequence. */
  readonly positions: number;
};

/** The numbers of one replay. */
export type RunNumbers = {
  /** T. */
  readonly tokens: number;
  /** P: the cache row of the first token; the others follow it, unless an operation is told `slots`. */
  readonly position: number;
  /** N. */
  readonly outputs: number;
  /** Rows of one sequence, where several are trained on at once; default: all tokens are one. */
  readonly length?: number;
};

/** Rows of a tensor at their largest. */
export function maxRows({ rows }: Pick<Tensor, "rows">, limits: Limits): number {
  return typeof rows === "number" ? rows : limits[rows];
}

/** Rows of a tensor in one replay. */
export function rowsIn({ rows }: Pick<Tensor, "rows">, numbers: RunNumbers): number {
  return typeof rows === "number" ? rows : numbers[rows];
}

/** Survives from replay to replay, and is shared by the programs that name it. */
export function isLasting({ kind }: Pick<Tensor, "kind">): boolean {
  return kind !== "input" && kind !== "output" && kind !== "activation";
}
