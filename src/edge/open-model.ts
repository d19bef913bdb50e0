/** What both entries share: options checked, a checkpoint loaded onto a device, the tokenizer beside it. */
import type { Backend, Device } from "../backends/backend.ts";
import { createReferenceBackend } from "../backends/reference.ts";
import { createWasmBackend, type WasmOptions } from "../backends/wasm/wasm.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import { createModel, type Model } from "../inference/model.ts";
import { prepareInference } from "../inference/programs.ts";
import { sharingSchema } from "../model/config.ts";
import { type LoadOptions, loadCheckpoint } from "../model/load.ts";
import * as o from "../options.ts";
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
  /** Stands in where a checkpoint has none. */
  readonly tokenizer?: Tokenizer | undefined;
};

/** What `modelSchema` makes of options. */
export type ModelSettings = ModelOptions & { readonly device: Device; readonly sequences: number };

export const modelEntries: o.Entries<ModelOptions, ModelSettings> = {
  dtype: o.optional(o.choice(...dtypes)),
  device: o.withDefault(o.device, "wasm"),
  threads: o.optional(o.threads),
  sequences: o.withDefault(o.number({ isWhole: true, min: 1, max: 1024 }), 1),
  sharing: o.optional(sharingSchema),
  contextLength: o.optional(o.number({ isWhole: true, min: 2 })),
  tokenizer: o.optional(o.instance("a tokenizer")),
  onProgress: o.optional(o.callback()),
  signal: o.optional(o.signal),
};

export const modelSchema: o.Schema<ModelOptions, ModelSettings> = o.object(modelEntries);

/** Most threads by default: decoding is bound by memory, which a few threads saturate. */
const MAX_DEFAULT_THREADS = 8;

/** What only the edge knows: how to start threads, whether they share memory, how many there could be. */
export type ModelEdge = Pick<WasmOptions, "spawn" | "canShare"> & { readonly cores: number };

/** @param settings checked by `modelSchema`. */
export async function openModel(checkpoint: Checkpoint, settings: ModelSettings, edge: ModelEdge): Promise<Model> {
  const { device, sequences, threads = Math.min(edge.cores, MAX_DEFAULT_THREADS) } = settings;
  const tokenizer = settings.tokenizer ?? createTokenizer(checkpoint.tokenizer);
  const backend = chooseBackend(device, { ...edge, threads });
  return loadCheckpoint(checkpoint, backend, settings, async (loaded) => {
    const programs = await prepareInference(loaded, loaded.contextLength * sequences);
    return createModel({ name: checkpoint.name, loaded, programs, tokenizer, dispose: () => loaded.machine.dispose() });
  });
}

export function chooseBackend(device: Device, wasm: WasmOptions): Backend {
  return device === "wasm" ? createWasmBackend(wasm) : createReferenceBackend();
}
