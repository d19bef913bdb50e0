/** Turns text into the tokens that a model is trained on: files and folders in, files and folders out. */
import { join } from "node:path";
import * as o from "../options.ts";
import { replaceFolder } from "../formats/node-folder.ts";
import { openTokenizerFiles } from "../formats/node-tokenizer.ts";
import { tokenizerWithFiles } from "../conversion/tokenizer.ts";
import { END_OF_TEXT } from "../tokenizer/train-bpe.ts";
import type { Manifest } from "../training/data/manifest.ts";
import { openDataset, writeFileSynced } from "../training/data/node-dataset.ts";
import { type DatasetTokenizer, type HeldOut, prepareDataset } from "../training/data/node-prepare.ts";
import { DEFAULT_SEPARATOR, DEFAULT_TEXT_FIELD, listSources } from "../training/data/node-sources.ts";
import {
  listTokenFiles,
  readTokens,
  type TokenFile,
  tokensToDataset,
  writeTokenJsonl,
  writeTokenShard,
} from "../training/data/node-tokens.ts";
import { trainTokenizer as trainTokenizerFiles } from "../training/data/node-train-tokenizer.ts";
import { type TokenDtype, tokenDtype } from "../training/data/shard.ts";

/** How far the reading of all sources is. */
export type DataProgress = { readonly doneBytes: number; readonly totalBytes: number };

/** Where something is read from and written to. */
export type DataPlaces = {
  /** Files, and folders that are read at any depth. */
  readonly sources: readonly string[];
  /** A folder that is replaced as a whole, or a file. */
  readonly out: string;
  readonly onProgress?: ((progress: DataProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** How documents lie in files of text: .txt, .md, .jsonl, .ndjson (each also .gz) and .parquet. */
export type TextPlaces = DataPlaces & {
  /** What stands between the documents of a text file; "" makes each file one. Default: `<|endoftext|>`. */
  readonly separator?: string | undefined;
  /** The field of JSONL, the column of Parquet. Default: `text`. */
  readonly textField?: string | undefined;
};

/** Which documents are never trained on. */
export type HoldOut = {
  /** A share of the documents, drawn by what they say, or so many at the end. Default: a share of 1%. */
  readonly heldOut?: HeldOut | undefined;
  /** Decides which documents a share draws. Default: 0. */
  readonly seed?: number | undefined;
};

/** What data preparation takes where an option is left out. */
export const dataDefaults = {
  separator: DEFAULT_SEPARATOR,
  textField: DEFAULT_TEXT_FIELD,
  specialTokens: [END_OF_TEXT] as readonly string[],
  heldOut: { kind: "share", share: 0.01 } as HeldOut,
  seed: 0,
  length: 2048,
} as const;

const placeEntries: o.Entries<DataPlaces, DataPlaces> = {
  sources: o.list(o.text),
  out: o.text,
  onProgress: o.optional(o.callback<(progress: DataProgress) => void>()),
  signal: o.optional(o.signal),
};
const textEntries: o.Entries<TextPlaces, TextPlaces & o.Filled<Pick<TextPlaces, "separator" | "textField">>> = {
  ...placeEntries,
  separator: o.withDefault(o.string, dataDefaults.separator),
  textField: o.withDefault(o.text, dataDefaults.textField),
};
type GivenHeldOut = {
  readonly kind: HeldOut["kind"];
  readonly share?: number | undefined;
  readonly documents?: number | undefined;
};
const heldOutSchema: o.Schema<HeldOut> = o.derived(
  o.object<GivenHeldOut>({
    kind: o.choice("share", "last"),
    share: o.optional(o.number({ min: 0, below: 1 })),
    documents: o.optional(o.wholeOrZero),
  }),
  ({ kind, share, documents }, refuse): HeldOut => {
    const [required, other] = kind === "share" ? (["share", "documents"] as const) : (["documents", "share"] as const);
    const given = { share, documents };
    if (given[other] !== undefined) refuse(other, `goes with another kind than "${kind}".`);
    const value = given[required] ?? refuse(required, `required with kind "${kind}", but missing.`);
    return kind === "share" ? { kind, share: value } : { kind, documents: value };
  },
) as o.Schema<HeldOut>;
const holdOutEntries: o.Entries<HoldOut, o.Filled<HoldOut>> = {
  heldOut: o.withDefault(heldOutSchema, dataDefaults.heldOut),
  seed: o.withDefault(o.number({ isWhole: true }), dataDefaults.seed),
};

/** Which tokenizer to train. */
export type TrainTokenizerOptions = TextPlaces & {
  /** How many entries there are in all: special tokens, 256 bytes, merges. */
  readonly vocabSize: number;
  /** The entries with the ids 0, 1, …; the first one ends a text. Default: `<|endoftext|>` alone. */
  readonly specialTokens?: readonly string[] | undefined;
};

const trainTokenizerSchema: o.Schema<
  TrainTokenizerOptions,
  TrainTokenizerOptions & { readonly specialTokens: readonly string[] }
> = o.object({
  ...textEntries,
  vocabSize: o.count,
  specialTokens: o.withDefault(o.list(o.text), dataDefaults.specialTokens),
});

/**
 * Trains a byte-level BPE, and writes tokenizer.json and tokenizer_config.json into the folder `out`.
 * @example await trainTokenizer({ sources: ["stories"], vocabSize: 4096, out: "tok" });
 * @throws {FormatError} for text that can't be read, {RangeError} for a vocabulary that can't be.
 */
export async function trainTokenizer(options: TrainTokenizerOptions): Promise<void> {
  const settings = o.check("trainTokenizer", trainTokenizerSchema, options);
  const sources = await listSources(settings.sources);
  const files = await trainTokenizerFiles({ ...settings, ...countBytes(sources, settings), sources });
  await replaceFolder(settings.out, async (folder) => {
    for (const [name, bytes] of files) await writeFileSynced(join(folder, name), bytes);
  });
}

/** What to make tokens of, and with which tokenizer. */
export type PrepareDataOptions = TextPlaces &
  HoldOut & {
    /** A folder, a .gguf file, a tokenizer.json or a tokenizer.model. */
    readonly tokenizer: string;
  };

const prepareDataSchema: o.Schema<PrepareDataOptions, PrepareDataOptions & o.Filled<HoldOut>> = o.object({
  ...textEntries,
  ...holdOutEntries,
  tokenizer: o.text,
});

/**
 * Turns text into a data set: a folder of shards with an end-of-text token after each document, the tokenizer, and a
 * manifest, which is returned.
 * @example const { splits } = await prepareData({ sources: ["stories"], tokenizer: "tok", out: "data/stories" });
 * @throws {FormatError} for text or a tokenizer that can't be read, and if there is no text to train on.
 */
export async function prepareData(options: PrepareDataOptions): Promise<Manifest> {
  const settings = o.check("prepareData", prepareDataSchema, options);
  const sources = await listSources(settings.sources);
  const tokenizer = await openDatasetTokenizer(settings.tokenizer);
  return prepareDataset({ ...settings, ...countBytes(sources, settings), ...tokenizer, sources });
}

/** Which tokens to write in another form. */
export type ConvertDataOptions = DataPlaces &
  HoldOut & {
    /** What made the tokens. Required for a data set; else it says how large ids may be. */
    readonly tokenizer?: string | undefined;
    /** A line of JSONL holds one token more. Default: 2048. */
    readonly length?: number | undefined;
    /** Which part of a data set is read. Default: train. */
    readonly split?: "train" | "heldOut" | undefined;
    /** How ids lie in a .bin file. Default: what holds the vocabulary, else uint16. */
    readonly dtype?: TokenDtype | undefined;
  };

const convertDataSchema: o.Schema<
  ConvertDataOptions,
  ConvertDataOptions & o.Filled<HoldOut> & { readonly length: number }
> = o.object({
  ...placeEntries,
  ...holdOutEntries,
  tokenizer: o.optional(o.text),
  length: o.withDefault(o.count, dataDefaults.length),
  split: o.optional(o.choice("train", "heldOut")),
  dtype: o.optional(o.choice("uint16", "uint32")),
});

/** What was written. */
export type ConvertedData =
  | { readonly kind: "dataset"; readonly manifest: Manifest }
  | { readonly kind: "jsonl"; readonly lines: number; /** Tokens that fill no line. */ readonly dropped: number }
  | { readonly kind: "shard"; readonly tokens: number; readonly dtype: TokenDtype };

/**
 * Writes tokens in another form: `out` ends in .jsonl (MobileLLM's lines of `token_ids`), in .bin (one shard of llm.c), or is
 * the folder of a data set. Sources are data sets, .jsonl and .bin files, and folders with such files.
 * @example await convertData({ sources: ["data/stories"], out: "pretrain/1/stories.jsonl" });
 * @throws {FormatError} for what holds no tokens, {TypeError} for a data set without its tokenizer.
 */
export async function convertData(options: ConvertDataOptions): Promise<ConvertedData> {
  const settings = o.check("convertData", convertDataSchema, options);
  const { out, heldOut, seed, split, length } = settings;
  const isJsonl = /\.jsonl$/i.test(out);
  const isDataset = !isJsonl && !/\.bin$/i.test(out);
  const sources = await listTokenFiles(settings.sources);
  const read = { split, signal: settings.signal, ...countBytes(sources, settings) };
  const tokenizer = settings.tokenizer === undefined ? undefined : await openDatasetTokenizer(settings.tokenizer);
  if (isDataset) {
    if (!tokenizer) {
      throw new TypeError(
        `convertData: tokenizer: what made the tokens was required for the data set ${out}, got none. Pass it, or name a file that ends in .jsonl or .bin.`,
      );
    }
    const manifest = await tokensToDataset({ ...tokenizer, ...read, sources, out, heldOut, seed });
    return { kind: "dataset", manifest };
  }
  const vocabSize = tokenizer?.tokenizer.vocabSize ?? (await vocabularyOf(sources));
  const dtype = settings.dtype ?? (vocabSize === undefined ? "uint16" : tokenDtype(vocabSize));
  const limit = vocabSize ?? (isJsonl || dtype === "uint32" ? 2 ** 32 : 2 ** 16);
  async function* tokens(): AsyncGenerator<ArrayLike<number>> {
    for (const source of sources) yield* readTokens(source, { ...read, vocabSize: limit });
  }
  if (isJsonl) return { kind: "jsonl", ...(await writeTokenJsonl(out, length, tokens())) };
  return { kind: "shard", tokens: await writeTokenShard(out, dtype, tokens()), dtype };
}

/**
 * Reads what a data set says of itself, after checking that it is whole.
 * @example const { splits } = await readManifest({ folder: "data/stories" });
 * @throws {FormatError} if the folder is no data set, or a shard is not what the manifest says.
 */
export async function readManifest(options: { readonly folder: string }): Promise<Manifest> {
  const { folder } = o.check("readManifest", o.object<typeof options>({ folder: o.text }), options);
  const dataset = await openDataset(folder);
  await dataset.close();
  return dataset.manifest;
}

async function openDatasetTokenizer(path: string): Promise<DatasetTokenizer> {
  return tokenizerWithFiles(await openTokenizerFiles(path), path);
}

/** The largest vocabulary of the data sets among the sources, if all are data sets. */
async function vocabularyOf(sources: readonly TokenFile[]): Promise<number | undefined> {
  let largest = 0;
  for (const { path, kind } of sources) {
    if (kind !== "dataset") return undefined;
    largest = Math.max(largest, (await readManifest({ folder: path })).tokenizer.vocabSize);
  }
  return largest;
}

/** Adds up the bytes that readers report. */
function countBytes(
  sources: readonly { readonly bytes: number }[],
  { onProgress }: DataPlaces,
): { readonly onBytes?: (bytes: number) => void } {
  if (!onProgress) return {};
  const totalBytes = sources.reduce((sum, { bytes }) => sum + bytes, 0);
  let doneBytes = 0;
  return {
    onBytes: (bytes) => {
      doneBytes += bytes;
      onProgress({ doneBytes, totalBytes });
    },
  };
}
