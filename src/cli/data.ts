/** `mobilellm data`: from text to the tokens that a model is trained on. */
import { readdir, stat } from "node:fs/promises";
import { Command, InvalidArgumentError } from "commander";
import type { Manifest } from "../training/data/manifest.ts";
import { writeFileSynced, writeFolder } from "../training/data/node-dataset.ts";
import { type HeldOut, prepareDataset } from "../training/data/node-prepare.ts";
import {
  DEFAULT_SEPARATOR,
  DEFAULT_TEXT_FIELD,
  type DocumentOptions,
  listSources,
  type SourceFile,
} from "../training/data/node-sources.ts";
import { trainTokenizer } from "../training/data/node-train-tokenizer.ts";
import { END_OF_TEXT } from "../tokenizer/train-bpe.ts";
import { join } from "node:path";
import { openDatasetTokenizer } from "./data-tokenizer.ts";
import { untilInterrupted } from "./interrupt.ts";
import { createProgressBar, formatSeconds } from "./progress-bar.ts";
import { formatBytes, formatCount, formatTable, parseCount, UsageError } from "./usage.ts";

type TextOptions = { documentSeparator: string; textField: string };
type TokenizerOptions = TextOptions & { vocabSize: number; specialTokens: string[]; out: string; force?: boolean };
type PrepareOptions = TextOptions & {
  tokenizer: string;
  out: string;
  heldOut: HeldOut;
  seed: number;
  force?: boolean;
  json?: boolean;
};

export function createDataCommand(): Command {
  return new Command("data")
    .description("from text to the tokens that a model is trained on")
    .addCommand(createTokenizerCommand())
    .addCommand(createPrepareCommand())
    .addHelpText("after", "\nExample:\n  $ mobilellm data prepare --tokenizer tok --out data/stories stories/");
}

const SOURCES = "files or folders: text, .jsonl, .parquet; text and .jsonl also .gz";

function createTokenizerCommand(): Command {
  return addTextOptions(
    new Command("tokenizer")
      .description("train a tokenizer: byte-level BPE, for every text there is, each digit alone")
      .argument("<sources...>", SOURCES)
      .requiredOption("--vocab-size <n>", "entries: special tokens, 256 bytes, merges", parseCount)
      .requiredOption("--out <folder>", "for tokenizer.json and tokenizer_config.json")
      .option("--special-tokens <texts...>", "ids 0, 1, …; the first ends a text", [END_OF_TEXT]),
  )
    .option("--force", "overwrite")
    .addHelpText("after", "\nExample:\n  $ mobilellm data tokenizer stories/ --vocab-size 4096 --out tok")
    .action((sources: string[], options: TokenizerOptions) =>
      untilInterrupted((signal) => runTokenizer(sources, options, signal)),
    );
}

async function runTokenizer(paths: string[], options: TokenizerOptions, signal: AbortSignal): Promise<void> {
  const { vocabSize, specialTokens, out, force = false } = options;
  await checkFolder("tokenizer", out, force);
  const sources = await listSources(paths);
  const files = await withProgress("Counting words", sources, (onBytes) =>
    trainTokenizer({ ...documentOptions(options), sources, vocabSize, specialTokens, signal, onBytes }),
  );
  await writeFolder(out, async (folder) => {
    for (const [name, bytes] of files) await writeFileSynced(join(folder, name), bytes);
  });
  console.log(`${out}: ${formatCount(vocabSize)} entries, ${specialTokens[0]} ends a text`);
}

function createPrepareCommand(): Command {
  return addTextOptions(
    new Command("prepare")
      .description("text to tokens: a folder of shards, with an end-of-text token after each document")
      .argument("<sources...>", SOURCES)
      .requiredOption("--tokenizer <path>", "a folder, a tokenizer.json or a tokenizer.model")
      .requiredOption("--out <folder>", "the data set")
      .option(
        "--held-out <part>",
        "documents never trained on: a share such as 1%, or how many at the end",
        parseHeldOut,
        parseHeldOut("1%"),
      )
      .option("--seed <n>", "which documents a share draws", parseSeed, 0),
  )
    .option("--force", "overwrite")
    .option("--json", "print the manifest")
    .addHelpText("after", "\nExample:\n  $ mobilellm data prepare stories/ --tokenizer tok --out data/stories")
    .action((sources: string[], options: PrepareOptions) =>
      untilInterrupted((signal) => runPrepare(sources, options, signal)),
    );
}

async function runPrepare(paths: string[], options: PrepareOptions, signal: AbortSignal): Promise<void> {
  const { tokenizer, out, heldOut, seed, force = false, json } = options;
  await checkFolder("prepare", out, force);
  const sources = await listSources(paths);
  const opened = await openDatasetTokenizer(tokenizer);
  const start = performance.now();
  const manifest = await withProgress("Tokenizing", sources, (onBytes) =>
    prepareDataset({ ...documentOptions(options), ...opened, sources, out, heldOut, seed, signal, onBytes }),
  );
  if (manifest.splits.heldOut.documents === 0 && !(heldOut.kind === "share" && heldOut.share === 0)) {
    console.error("No document was held out: there are too few. Pass a number, such as --held-out 1.");
  }
  if (json) return console.log(JSON.stringify(manifest, null, 2));
  const seconds = (performance.now() - start) / 1000;
  const bytes = manifest.splits.train.bytes + manifest.splits.heldOut.bytes;
  console.log(formatManifest(manifest));
  console.log(`${out}: ${formatBytes(bytes)} of text in ${formatSeconds(seconds)} (${formatBytes(bytes / seconds)}/s)`);
}

/** A row for each source and split, and the sums. */
function formatManifest({ sources, splits }: Manifest): string {
  const row = (name: string, { train, heldOut }: Pick<Manifest["splits"], "train" | "heldOut">): string[] => [
    name,
    ...[train.documents, train.tokens, heldOut.documents, heldOut.tokens].map(formatCount),
    ((train.bytes + heldOut.bytes) / (train.tokens + heldOut.tokens)).toFixed(2),
  ];
  const shown = sources.length > 1 && sources.length <= 20 ? sources : [];
  return formatTable([
    ["source", "documents", "tokens", "held out", "tokens", "bytes/token"],
    ...shown.map((source) => row(source.file, source as unknown as Manifest["splits"])),
    row("all", splits),
  ]);
}

function addTextOptions(command: Command): Command {
  return command
    .option(
      "--document-separator <text>",
      "stands between documents of a text file; \\n is a new line, '' makes each file one",
      (text) => text.replaceAll("\\n", "\n"),
      DEFAULT_SEPARATOR,
    )
    .option("--text-field <name>", "field of JSONL, column of Parquet", DEFAULT_TEXT_FIELD);
}

function documentOptions({ documentSeparator, textField }: TextOptions): DocumentOptions {
  return { separator: documentSeparator, textField };
}

async function withProgress<T>(
  verb: string,
  sources: readonly SourceFile[],
  work: (onBytes: (bytes: number) => void) => Promise<T>,
): Promise<T> {
  const bar = createProgressBar(
    verb,
    sources.reduce((sum, { bytes }) => sum + bytes, 0),
  );
  try {
    return await work((bytes) => bar.add(bytes));
  } finally {
    bar.clear();
  }
}

/** Nothing is overwritten unasked. */
async function checkFolder(command: string, out: string, force: boolean): Promise<void> {
  const status = await stat(out).catch(() => undefined);
  if (status === undefined) return;
  if (!status.isDirectory()) throw new UsageError(`data ${command}: ${out} is a file. Choose another name.`);
  if (force || (await readdir(out)).length === 0) return;
  throw new UsageError(`data ${command}: ${out} exists. Pass --force to overwrite it.`);
}

/** `1%`, `0.5%`; `300` documents. */
function parseHeldOut(text: string): HeldOut {
  const share = /^(\d+(?:\.\d+)?)\s*%$/.exec(text);
  if (share) {
    const percent = Number(share[1]);
    if (percent < 100) return { kind: "share", share: percent / 100 };
  } else if (/^\d+$/.test(text)) {
    const documents = Number(text);
    return documents === 0 ? { kind: "share", share: 0 } : { kind: "last", documents };
  }
  throw new InvalidArgumentError("Expected a share of the documents below 100%, such as 1%, or a number of documents.");
}

function parseSeed(text: string): number {
  const seed = Number(text);
  if (!Number.isSafeInteger(seed) || text.trim() === "") throw new InvalidArgumentError("Expected a whole number.");
  return seed;
}
