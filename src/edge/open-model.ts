/** What both entries share: options checked, a checkpoint loaded onto a device, the tokenizer beside it. */
import type { Backend, Device } from "../backends/backend.ts";
import { createReferenceBackend } from "../backends/reference.ts";
import { createWasmBackend, type WasmOptions } from "../backends/wasm/wasm.ts";
import { refuseUnknownKeys } from "../errors.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import { createModel, type Model } from "../inference/model.ts";
import { prepareInference } from "../inference/programs.ts";
import { type LoadOptions, loadCheckpoint } from "../model/load.ts";
import { dtypes } from "../tensor/dtype.ts";
import { createTokenizer } from "../tokenizer/create-tokenizer.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

export type ModelOptions = LoadOptions & {
  /** Default: `wasm`. `reference` is plain TypeScript with f64 sums: slow, and what the numbers should be. */
  readonly device?: Device | undefined;
  /** Default: one for each core, at most 8; one where memory cannot be shared. */
  readonly threads?: number | undefined;
  /** Texts of full length that the key/value cache has room for, so that they run together. Default: 1. */
  readonly sequences?: number | undefined;
  /** For a checkpoint that has none. */
  readonly tokenizer?: Tokenizer | undefined;
};

const modelOptionKeys = [
  "dtype",
  "device",
  "threads",
  "sequences",
  "sharing",
  "contextLength",
  "onProgress",
  "signal",
  "tokenizer",
];

/** Most threads by default: decoding is bound by memory, which a few threads saturate. */
const MAX_DEFAULT_THREADS = 8;

/** What only the edge knows: how to start threads, whether they share memory, how many there could be. */
export type ModelEdge = Pick<WasmOptions, "spawn" | "canShare"> & { readonly cores: number };

export async function openModel(checkpoint: Checkpoint, options: ModelOptions, edge: ModelEdge): Promise<Model> {
  const { dtype, device = "wasm", sequences = 1, threads = Math.min(edge.cores, MAX_DEFAULT_THREADS) } = options;
  if (dtype !== undefined && !dtypes.includes(dtype)) {
    throw new TypeError(`dtype: expected one of ${dtypes.join(", ")}, got ${JSON.stringify(dtype)}.`);
  }
  if (!Number.isInteger(threads) || threads < 1 || threads > 64) {
    throw new RangeError(`threads: expected a whole number from 1 to 64, got ${String(threads)}.`);
  }
  if (!Number.isInteger(sequences) || sequences < 1 || sequences > 1024) {
    throw new RangeError(`sequences: expected a whole number from 1 to 1024, got ${String(sequences)}.`);
  }
  const tokenizer = options.tokenizer ?? createTokenizer(checkpoint.tokenizer);
  const backend = chooseBackend(device, { ...edge, threads });
  return loadCheckpoint(checkpoint, backend, options, async (loaded) => {
    const programs = await prepareInference(loaded, loaded.contextLength * sequences);
    return createModel({ name: checkpoint.name, loaded, programs, tokenizer, dispose: () => loaded.machine.dispose() });
  });
}

export function chooseBackend(device: Device, wasm: WasmOptions): Backend {
  switch (device) {
    case "wasm":
      return createWasmBackend(wasm);
    case "reference":
      return createReferenceBackend();
    default:
      throw new TypeError(`device: expected "wasm" or "reference", got ${JSON.stringify(device satisfies never)}.`);
  }
}

/** @param own options that only the caller's entry knows. */
export function checkModelOptions(options: object, own: readonly string[] = []): void {
  refuseUnknownKeys("loadModel", options, [...modelOptionKeys, ...own]);
}
