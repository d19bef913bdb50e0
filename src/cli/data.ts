/** `mobilellm data`: from text to the tokens that a model is trained on. */
import { readdir, stat } from "node:fs/promises";
import { Command, InvalidArgumentError, Option } from "commander";
import {
  convertData,
  dataDefaults,
  type DataProgress,
  type HeldOut,
  type Manifest,
  prepareData,
  readManifest,
  type TokenDtype,
  trainTokenizer,
} from "../entries/node/training.ts";
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

type ConvertOptions = {
  out: string;
  tokenizer?: string;
  length: number;
  split?: "train" | "held-out";
  dtype?: TokenDtype;
  heldOut?: HeldOut;
  seed: number;
  force?: boolean;
};

export function createDataCommand(): Command {
  return new Command("data")
    .description("from text to the tokens that a model is trained on")
    .addCommand(createTokenizerCommand())
    .addCommand(createPrepareCommand())
    .addCommand(createConvertCommand())
    .addCommand(createInfoCommand())
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
      .option("--special-tokens <texts...>", "ids 0, 1, …; the first ends a text", [...dataDefaults.specialTokens]),
  )
    .option("--force", "overwrite")
    .addHelpText("after", "\nExample:\n  $ mobilellm data tokenizer stories/ --vocab-size 4096 --out tok")
    .action((sources: string[], options: TokenizerOptions) =>
      untilInterrupted((signal) => runTokenizer(sources, options, signal)),
    );
}

async function runTokenizer(sources: string[], options: TokenizerOptions, signal: AbortSignal): Promise<void> {
  const { vocabSize, specialTokens, out, force = false } = options;
  await checkFolder("tokenizer", out, force);
  await withProgress("Counting words", (onProgress) =>
    trainTokenizer({ ...documentOptions(options), sources, vocabSize, specialTokens, out, signal, onProgress }),
  );
  console.log(`${out}: ${formatCount(vocabSize)} entries, ${specialTokens[0]} ends a text`);
}

function createPrepareCommand(): Command {
  return addTextOptions(
    new Command("prepare")
      .description("text to tokens: a folder of shards, with an end-of-text token after each document")
      .argument("<sources...>", SOURCES)
      .requiredOption("--tokenizer <path>", "a folder, a .gguf file, a tokenizer.json or a tokenizer.model")
      .requiredOption("--out <folder>", "the data set")
      .addOption(
        new Option("--held-out <part>", "documents never trained on: a share such as 1%, or how many at the end")
          .argParser(parseHeldOut)
          .default(parseHeldOut("1%"), "1%"),
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

async function runPrepare(sources: string[], options: PrepareOptions, signal: AbortSignal): Promise<void> {
  const { tokenizer, out, heldOut, seed, force = false, json } = options;
  await checkFolder("prepare", out, force);
  const start = performance.now();
  const manifest = await withProgress("Tokenizing", (onProgress) =>
    prepareData({ ...documentOptions(options), sources, tokenizer, out, heldOut, seed, signal, onProgress }),
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

function createConvertCommand(): Command {
  return new Command("convert")
    .description("tokens that are tokens already, to and from MobileLLM's JSONL and llm.c's shards")
    .argument("<sources...>", 'data sets, .jsonl with {"token_ids": […]}, .bin of llm.c, folders of these')
    .requiredOption("--out <path>", "a name that ends in .jsonl or .bin, or a folder for a data set")
    .option("--tokenizer <path>", "needed for a data set: what made the tokens")
    .option("--length <n>", "a line of JSONL holds one token more", parseCount, 2048)
    .addOption(new Option("--split <name>", "which part of a data set is read").choices(["train", "held-out"]))
    .addOption(
      new Option("--dtype <name>", "in a .bin (default: what holds the vocabulary, else uint16)").choices([
        "uint16",
        "uint32",
      ]),
    )
    .option("--held-out <part>", "of a data set: a share such as 1%, or how many documents at the end", parseHeldOut)
    .option("--seed <n>", "which documents a share draws", parseSeed, 0)
    .option("--force", "overwrite")
    .addHelpText("after", "\nExample:\n  $ mobilellm data convert data/stories --out pretrain/1/stories.jsonl")
    .action((sources: string[], options: ConvertOptions) =>
      untilInterrupted((signal) => runConvert(sources, options, signal)),
    );
}

async function runConvert(sources: string[], options: ConvertOptions, signal: AbortSignal): Promise<void> {
  const { out, length, split, tokenizer, dtype, heldOut, seed, force = false } = options;
  const isJsonl = /\.jsonl$/i.test(out);
  const isBin = /\.bin$/i.test(out);
  const isFile = isJsonl || isBin;
  if (isFile) await checkFile("convert", out, force);
  else await checkFolder("convert", out, force);
  if (!isFile && tokenizer === undefined) {
    throw new UsageError("data convert: a data set needs --tokenizer. Or name a file that ends in .jsonl or .bin.");
  }
  if (isFile && heldOut !== undefined) {
    throw new UsageError("data convert: --held-out is for a data set. Name a folder, or leave it out.");
  }
  if (!isBin && dtype !== undefined) {
    throw new UsageError("data convert: --dtype is for a .bin file. Leave it out.");
  }
  const converted = await withProgress("Converting", (onProgress) =>
    convertData({
      sources,
      out,
      length,
      split: split === "held-out" ? "heldOut" : split,
      tokenizer,
      dtype,
      heldOut,
      seed,
      signal,
      onProgress,
    }),
  );
  switch (converted.kind) {
    case "dataset":
      return console.log(formatManifest(converted.manifest));
    case "jsonl":
      return console.log(
        `${out}: ${formatCount(converted.lines)} lines of ${length + 1} tokens, the last ${converted.dropped} dropped`,
      );
    case "shard":
      return console.log(`${out}: ${formatCount(converted.tokens)} tokens of ${converted.dtype}`);
  }
}

function createInfoCommand(): Command {
  return new Command("info")
    .description("what a data set holds, after checking that it is whole")
    .argument("<folder>", "made by prepare or convert")
    .option("--json", "print the manifest")
    .addHelpText("after", "\nExample:\n  $ mobilellm data info data/stories")
    .action(async (folder: string, { json }: { json?: boolean }) => {
      const manifest = await readManifest({ folder });
      if (json) return console.log(JSON.stringify(manifest, null, 2));
      const { tokenizer, dtype, settings } = manifest;
      console.log(formatManifest(manifest));
      console.log(
        `${tokenizer.file} of ${formatCount(tokenizer.vocabSize)} entries, sha256 ${tokenizer.sha256.slice(0, 12)}…, ${tokenizer.eosToken} after each document; ${dtype}`,
      );
      console.log(
        Object.entries(settings)
          .map(([key, value]) => `${key}: ${JSON.stringify(value)}`)
          .join(", "),
      );
    });
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
      dataDefaults.separator,
    )
    .option("--text-field <name>", "field of JSONL, column of Parquet", dataDefaults.textField);
}

function documentOptions({ documentSeparator, textField }: TextOptions): { separator: string; textField: string } {
  return { separator: documentSeparator, textField };
}

async function withProgress<T>(
  verb: string,
  work: (onProgress: (progress: DataProgress) => void) => Promise<T>,
): Promise<T> {
  const bar = createProgressBar(verb);
  try {
    return await work(({ doneBytes, totalBytes }) => bar.show(doneBytes, totalBytes));
  } finally {
    bar.clear();
  }
}

async function checkFile(command: string, out: string, force: boolean): Promise<void> {
  const status = await stat(out).catch(() => undefined);
  if (status?.isDirectory()) throw new UsageError(`data ${command}: ${out} is a folder. Choose another name.`);
  if (status && !force) throw new UsageError(`data ${command}: ${out} exists. Pass --force to overwrite it.`);
}

const TOKENIZER_FILES = /^tokenizer(_config)?\.json$|^tokenizer\.model$/;
const DATASET_FILES = /^manifest\.json$|^(train|heldout)-\d{5}\.bin$/;

/** Nothing is overwritten unasked, and with --force only what this program wrote: the folder is replaced as a whole. */
async function checkFolder(command: string, out: string, force: boolean): Promise<void> {
  const status = await stat(out).catch(() => undefined);
  if (status === undefined) return;
  if (!status.isDirectory()) throw new UsageError(`data ${command}: ${out} is a file. Choose another name.`);
  const names = await readdir(out);
  const other = names.find(
    (name) => !(TOKENIZER_FILES.test(name) || (command !== "tokenizer" && DATASET_FILES.test(name))),
  );
  if (other !== undefined) {
    throw new UsageError(`data ${command}: ${out} holds other files, such as ${other}. Choose another name.`);
  }
  if (names.length > 0 && !force) {
    throw new UsageError(`data ${command}: ${out} exists. Pass --force to overwrite it.`);
  }
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
