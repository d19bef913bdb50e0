/** Text becomes a data set: tokens in shards, split by document into training and held-out text. */
import { createHash } from "node:crypto";
import { basename, join } from "node:path";
import { FormatError } from "../../errors.ts";
import { printJson } from "../../formats/json.ts";
import { replaceFolder } from "../../formats/node-folder.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { createPartEncoder, endOfText } from "./encode-documents.ts";
import { type Manifest, MANIFEST_FILE, noCounts, type SourceCounts, type SplitName } from "./manifest.ts";
import { createShardWriter, sha256, shardFile, writeFileSynced } from "./node-dataset.ts";
import {
  DEFAULT_SEPARATOR,
  DEFAULT_TEXT_FIELD,
  type DocumentOptions,
  readDocuments,
  type SourceFile,
} from "./node-sources.ts";
import { tokenDtype } from "./shard.ts";

/**
 * Which documents are never trained on. `share`: a part of them, drawn by what they say, so that a copy of a document lands where the document does, and more
 * sources change nothing for those before. `last`: so many at the end.
 */
export type HeldOut =
  | { readonly kind: "share"; readonly share: number }
  | { readonly kind: "last"; readonly documents: number };

/** A tokenizer with its files, which go into the data set's folder. */
export type DatasetTokenizer = {
  readonly tokenizer: Tokenizer;
  /** The files by name; first the one that makes the tokenizer: tokenizer.json or tokenizer.model. */
  readonly files: ReadonlyMap<string, Uint8Array>;
};

/** Which text becomes which data set. */
export type PrepareOptions = DocumentOptions &
  DatasetTokenizer & {
    readonly sources: readonly SourceFile[];
    /** The data set's folder; what is there is replaced. */
    readonly out: string;
    readonly heldOut: HeldOut;
    /** Decides which documents a `share` draws. Default 0. */
    readonly seed?: number | undefined;
    /** The most tokens that a file holds. Default: 100 million. */
    readonly shardTokens?: number | undefined;
  };

/** Tokens of a document, its end-of-text token included, and how many bytes of text they stand for. */
export type EncodedPart = {
  readonly tokens: ArrayLike<number>;
  readonly bytes: number;
  readonly isFirst: boolean;
  readonly isLast: boolean;
};

/** Makes a data set from text. @throws {FormatError} for text that can't be read, and if there is none. */
export async function prepareDataset(options: PrepareOptions): Promise<Manifest> {
  const { tokenizer, heldOut, seed, separator = DEFAULT_SEPARATOR, textField = DEFAULT_TEXT_FIELD } = options;
  const eosToken = endOfText(tokenizer);
  const encode = createPartEncoder(tokenizer);
  return writeDataset(options, async (write) => {
    const splitter = createSplitter(heldOut, seed, write);
    const sources: SourceCounts[] = [];
    for (const file of options.sources) {
      const source = newSource(file);
      let emptyDocuments = 0;
      for await (const part of readDocuments(file, options)) {
        const { text, isFirst, isLast } = part;
        if (isFirst && isLast && text.trim() === "") {
          emptyDocuments++;
          continue;
        }
        const tokens = encode(part);
        if (isLast) tokens.push(eosToken);
        await splitter.push(source, { tokens, bytes: Buffer.byteLength(text), isFirst, isLast }, text);
      }
      sources.push({ ...source, emptyDocuments });
    }
    await splitter.end();
    return { sources, settings: { ...splitter.settings, separator, textField } };
  });
}

/** Makes a splitter that sends each document to its split. */
export function createSplitter(
  heldOut: HeldOut,
  seed: number = 0,
  write: DatasetWriter,
): {
  readonly settings: Manifest["settings"];
  /** @param content what a share draws by, for the first part of a document. */
  push(source: SourceCounts, part: EncodedPart, content: string | Uint8Array): Promise<void>;
  end(): Promise<void>;
} {
  if (heldOut.kind === "share") {
    let split: SplitName = "train";
    return {
      settings: { heldOut: `${100 * heldOut.share} %`, seed },
      async push(source, part, content) {
        if (part.isFirst) split = drawFraction(content, seed) < heldOut.share ? "heldOut" : "train";
        await write(split, source, part);
      },
      end: async () => {},
    };
  }
  const last: { source: SourceCounts; parts: EncodedPart[] }[] = []; // of the documents so far
  let parts: EncodedPart[] = [];
  return {
    settings: { heldOut: `last ${heldOut.documents}` },
    async push(source, part) {
      parts.push(part);
      if (!part.isLast) return;
      last.push({ source, parts });
      parts = [];
      const oldest = last.length > heldOut.documents ? last.shift() : undefined;
      if (oldest === undefined) return;
      for (const old of oldest.parts) await write("train", oldest.source, old);
    },
    async end() {
      for (const { source, parts } of last) for (const part of parts) await write("heldOut", source, part);
    },
  };
}

/** Writes a part of a document into a split, and counts it for its source. */
export type DatasetWriter = (split: SplitName, source: SourceCounts, part: EncodedPart) => Promise<void>;

/**
 * Writes a data set's folder, whole or not at all: the shards that `fill` writes, the tokenizer, the manifest.
 * @throws {FormatError} if nothing was written to train on.
 */
export async function writeDataset(
  { out, tokenizer, files, shardTokens }: Pick<PrepareOptions, "out" | "tokenizer" | "files" | "shardTokens">,
  fill: (write: DatasetWriter) => Promise<Pick<Manifest, "sources" | "settings">>,
): Promise<Manifest> {
  const dtype = tokenDtype(tokenizer.vocabSize);
  return replaceFolder(out, async (folder) => {
    const writers = {
      train: createShardWriter(folder, shardFile("train"), dtype, shardTokens),
      heldOut: createShardWriter(folder, shardFile("heldOut"), dtype, shardTokens),
    };
    const totals = { train: noCounts(), heldOut: noCounts() };
    try {
      const { sources, settings } = await fill(async (split, source, { tokens, bytes, isLast }) => {
        await writers[split].write(tokens);
        for (const counts of [source[split], totals[split]]) {
          counts.tokens += tokens.length;
          counts.bytes += bytes;
          if (isLast) counts.documents++;
        }
      });
      if (totals.train.tokens === 0) {
        throw new FormatError(
          totals.heldOut.tokens === 0
            ? `${out}: text to train on was required, the sources hold none.`
            : `${out}: text to train on was required, all ${totals.heldOut.documents} documents were held out. Hold out fewer.`,
        );
      }
      const [main] = files;
      if (main === undefined) throw new FormatError(`${out}: a tokenizer that comes in files was required.`);
      for (const [name, bytes] of files) await writeFileSynced(join(folder, name), bytes);
      const manifest: Manifest = {
        format: "mobilellm-data",
        version: 1,
        tokenizer: {
          file: main[0],
          sha256: sha256(main[1]),
          vocabSize: tokenizer.vocabSize,
          eosToken: endOfText(tokenizer),
        },
        dtype,
        splits: {
          train: { ...totals.train, shards: await writers.train.finish() },
          heldOut: { ...totals.heldOut, shards: await writers.heldOut.finish() },
        },
        sources,
        settings,
      };
      await writeFileSynced(join(folder, MANIFEST_FILE), printJson(manifest));
      return manifest;
    } finally {
      await writers.train.abort();
      await writers.heldOut.abort();
    }
  });
}

/** Makes a source that has given nothing yet. */
export function newSource({ path, bytes }: { readonly path: string; readonly bytes: number }): SourceCounts {
  return { file: basename(path), fileBytes: bytes, emptyDocuments: 0, train: noCounts(), heldOut: noCounts() };
}

/** Draws a number in [0, 1) that a document and the seed decide. */
export function drawFraction(content: string | Uint8Array, seed: number): number {
  return createHash("sha256").update(`${seed}\n`).update(content).digest().readUInt32BE() / 2 ** 32;
}
