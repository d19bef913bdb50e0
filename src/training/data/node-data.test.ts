/** From files on disk to rows, and what is refused on the way. */
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTokenizer } from "../../tokenizer/create-tokenizer.ts";
import { openChatLoader } from "./node-chat-loader.ts";
import { openLoader } from "./node-loader.ts";
import type { Manifest } from "./manifest.ts";
import { openDataset } from "./node-dataset.ts";
import { type DatasetTokenizer, type HeldOut, prepareDataset, type PrepareOptions } from "./node-prepare.ts";
import { type DocumentOptions, listSources, readDocuments } from "./node-sources.ts";
import { listTokenFiles, readTokens, tokensToDataset, writeTokenJsonl, writeTokenShard } from "./node-tokens.ts";
import { trainTokenizer } from "./node-train-tokenizer.ts";
import type { Row } from "./rows.ts";

const fixtures = fileURLToPath(new URL("../../../test/fixtures/data", import.meta.url));
const stories = Array.from(
  { length: 40 },
  (_, i) => `Story ${i}.\n\nThe 🐢 number ${i} went to the river, żółw ${i * i}.`,
);

let folder: string;
let opened: DatasetTokenizer;
let counter = 0;

const path = (name: string): string => join(folder, name);
async function write(name: string, content: string | Uint8Array): Promise<string> {
  await writeFile(path(name), content);
  return path(name);
}
const newPath = (ending = ""): string => path(`out-${counter++}${ending}`);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mobilellm-data-"));
  await write("stories.txt", `${stories.join("\n<|endoftext|>\n")}\n<|endoftext|>\n`);
  const files = await trainTokenizer({
    vocabSize: 285,
    specialTokens: ["<|endoftext|>", "<|end|>"],
    sources: await listSources([path("stories.txt")]),
  });
  const config = JSON.parse(new TextDecoder().decode(files.get("tokenizer_config.json"))) as Record<string, unknown>;
  config["chat_template"] =
    "{% for message in messages %}{{ message.role }}: {{ message.content }}<|end|>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
  const tokenizer = createTokenizer({ kind: "files", tokenizerJson: files.get("tokenizer.json")!, config })!;
  opened = { tokenizer, files };
});
afterAll(() => rm(folder, { recursive: true }));

async function textsOf(file: string, options: DocumentOptions = {}): Promise<string[]> {
  const [source] = await listSources([file]);
  const texts: string[] = [];
  for await (const { text } of readDocuments(source!, options)) texts.push(text);
  return texts;
}

async function prepare(
  paths: string[],
  heldOut: HeldOut,
  options: Partial<PrepareOptions> = {},
): Promise<{ out: string; manifest: Manifest }> {
  const out = options.out ?? newPath();
  const sources = await listSources(paths);
  return { out, manifest: await prepareDataset({ ...opened, ...options, sources, out, heldOut }) };
}

/** The documents of a split, decoded; each must have ended with the end-of-text token. */
async function splitTexts(out: string, split: "train" | "heldOut"): Promise<string[]> {
  const dataset = await openDataset(out);
  const stream = dataset.splits[split];
  const tokens = Array.from(await stream.read(0, stream.length));
  await dataset.close();
  const text = opened.tokenizer.decode(tokens);
  const texts = text.split("<|endoftext|>");
  expect(texts.pop()).toBe("");
  return texts;
}

describe("sources", () => {
  it("are text, JSONL and Parquet, plain or compressed, with the same documents", async () => {
    const jsonl = stories.map((text, id) => JSON.stringify({ id, text })).join("\n");
    const text = await readFile(path("stories.txt"));
    expect(await textsOf(path("stories.txt"))).toEqual(stories);
    expect(await textsOf(await write("a.txt.gz", gzipSync(text)))).toEqual(stories);
    const members = [text.subarray(0, 333), text.subarray(333)].map((part) => gzipSync(part));
    expect(await textsOf(await write("b.txt.gz", Buffer.concat(members)))).toEqual(stories);
    expect(await textsOf(await write("a.jsonl", jsonl))).toEqual(stories);
    expect(await textsOf(await write("a.jsonl.gz", gzipSync(`\n${jsonl}\r\n\n`)))).toEqual(stories);
    expect(await textsOf(await write("bom.txt", `\uFEFF${stories[0]}`))).toEqual([stories[0]]);
  });

  it.each(["none", "snappy", "gzip", "zstd", "brotli", "lz4"])("Parquet with compression %s", async (name) => {
    const texts = Array.from({ length: 7 }, (_, i) => `Story ${i}: Żółw nr ${i} 🐢 went to the river.\n\nThe end.`);
    expect(await textsOf(join(fixtures, `${name}.parquet`))).toEqual(texts);
  });

  it("are found in folders, in the order of their names", async () => {
    await mkdir(path("many/deep"), { recursive: true });
    for (const name of ["many/b.txt", "many/a.jsonl", "many/deep/c.md", "many/.hidden.txt", "many/notes.pdf"]) {
      await write(name, '{"text": "x"}');
    }
    const names = (await listSources([path("many")])).map((source) => source.path.slice(path("many/").length));
    expect(names).toEqual(["a.jsonl", "b.txt", "deep/c.md"]);
  });

  it("name the file, the line and the way on when something is wrong", async () => {
    const failure = async (name: string, content: string | Uint8Array): Promise<string> => {
      const file = await write(name, content);
      const error = await textsOf(file).then(String, (error: Error) => error.message);
      return error.replaceAll(`${folder}/`, "");
    };
    const good = '{"text": "a"}\n';
    expect(await failure("bad.jsonl", `${good}\n{"text": `)).toMatch(/^bad\.jsonl:3: a line of JSON is required: /);
    expect(await failure("bad.jsonl", `${good}{"story": "b", "by": "c"}`)).toMatchInlineSnapshot(
      `"bad.jsonl:2: a field "text" is required, got "story", "by". Name one of them as the text field (--text-field)."`,
    );
    expect(await failure("bad.jsonl", '{"token_ids": [1]}')).toMatchInlineSnapshot(
      `"bad.jsonl:1: a field "text" is required, got "token_ids". These are tokens already: use "mobilellm data convert"."`,
    );
    expect(await failure("bad.jsonl", '{"text": 5}')).toMatchInlineSnapshot(
      `"bad.jsonl:1: "text" must be text, got 5."`,
    );
    expect(await failure("bad.jsonl", "[1]")).toMatchInlineSnapshot(
      `"bad.jsonl:1: a JSON object is required, such as {"text": "…"}."`,
    );
    const latin1 = Buffer.from(`${"x\n".repeat(600_000)}caf\xe9\n`, "latin1"); // in the second block
    expect(await failure("bad.txt", latin1)).toMatchInlineSnapshot(
      `"bad.txt:600001: text in UTF-8 is required, this line has other bytes. Convert the file."`,
    );
    expect(await failure("bad.txt", Buffer.from([0x61, 0x0a, 0xf0, 0x9f]))).toMatchInlineSnapshot(
      `"bad.txt:2: text in UTF-8 is required, this line has other bytes. Convert the file."`,
    );
    expect(await failure("bad.txt.gz", gzipSync("abc".repeat(1000)).subarray(0, 30))).toMatchInlineSnapshot(
      `"bad.txt.gz: valid gzip data is required, got: unexpected end of file. Download it again."`,
    );
    expect(await failure("bad.txt.gz", "no gzip")).toMatchInlineSnapshot(
      `"bad.txt.gz: valid gzip data is required, got: incorrect header check. Download it again."`,
    );
    expect(await failure("bad.parquet", "PAR1 and no more")).toMatch(/^bad\.parquet: a Parquet file is required: /);
    expect(await failure("bad.docx", "")).toMatchInlineSnapshot(
      `"bad.docx: a file of a kind that is read was required: .txt, .md, .jsonl, .ndjson (each also .gz) and .parquet."`,
    );
    await expect(textsOf(join(fixtures, "none.parquet"), { textField: "story" })).rejects.toThrow(
      /none.parquet: a column "story" is required, got "id", "text", "meta"/,
    );
    await expect(textsOf(join(fixtures, "none.parquet"), { textField: "id" })).rejects.toThrow(
      /none.parquet: column "id" must hold text, got bigint in row 0\./,
    );
    await expect(listSources([path("nothing")])).rejects.toThrow(/nothing: a file or folder with text was required/);
    await expect(listSources([fixtures.replace(/data$/, "checkpoints")])).rejects.toThrow(/holds no file that is read/);
  });
});

describe("a data set", () => {
  it("holds every document once, in its split, with exact counts", async () => {
    const text = stories.join("\n<|endoftext|>\n\n<|endoftext|>\n"); // with empty documents between
    const { out, manifest } = await prepare([await write("empty.txt", text)], { kind: "last", documents: 3 });
    expect(await splitTexts(out, "train")).toEqual(stories.slice(0, -3));
    expect(await splitTexts(out, "heldOut")).toEqual(stories.slice(-3));
    const bytes = (texts: string[]): number => Buffer.byteLength(texts.join(""));
    expect(manifest.splits.train).toMatchObject({ documents: 37, bytes: bytes(stories.slice(0, -3)) });
    expect(manifest.splits.heldOut).toMatchObject({ documents: 3, bytes: bytes(stories.slice(-3)) });
    expect(manifest.sources).toMatchObject([{ file: "empty.txt", emptyDocuments: 39 }]);
    expect(manifest.tokenizer.eosToken).toBe(0);
    expect((await readdir(out)).sort()).toEqual([
      "heldout-00000.bin",
      "manifest.json",
      "tokenizer.json",
      "tokenizer_config.json",
      "train-00000.bin",
    ]);
  });

  it("is the same, byte for byte, when it is made again", async () => {
    const heldOut: HeldOut = { kind: "share", share: 0.3 };
    const [a, b] = [await prepare([path("stories.txt")], heldOut), await prepare([path("stories.txt")], heldOut)];
    for (const name of await readdir(a.out))
      expect(await readFile(join(b.out, name))).toEqual(await readFile(join(a.out, name)));
  });

  it("draws a share by what documents say: copies go together, more sources change nothing", async () => {
    const share: HeldOut = { kind: "share", share: 0.3 };
    const alone = await prepare([path("stories.txt")], share);
    const drawn = await splitTexts(alone.out, "heldOut");
    expect(drawn.length).toBeGreaterThan(4);
    expect(drawn.length).toBeLessThan(20);
    const jsonl = [...stories]
      .reverse()
      .map((text) => JSON.stringify({ text }))
      .join("\n");
    const twice = await prepare([await write("again.jsonl", jsonl), path("stories.txt")], share);
    expect(new Set(await splitTexts(twice.out, "heldOut"))).toEqual(new Set(drawn));
    expect((await splitTexts(twice.out, "train")).some((text) => drawn.includes(text))).toBe(false);
    const other = await prepare([path("stories.txt")], share, { seed: 5 });
    expect(await splitTexts(other.out, "heldOut")).not.toEqual(drawn);
  });

  it("gives the same rows in one shard or in many, in 16 bits or in 32", async () => {
    const heldOut: HeldOut = { kind: "last", documents: 4 };
    const big = { ...opened.tokenizer, vocabSize: 70_000 };
    const variants = await Promise.all([
      prepare([path("stories.txt")], heldOut),
      prepare([path("stories.txt")], heldOut, { shardTokens: 100 }),
      prepare([path("stories.txt")], heldOut, { shardTokens: 100, tokenizer: big }),
    ]);
    expect(variants[1]!.manifest.splits.train.shards.length).toBeGreaterThan(3);
    expect(variants.map(({ manifest }) => manifest.dtype)).toEqual(["uint16", "uint16", "uint32"]);
    const rows = await Promise.all(
      variants.map(async ({ out }) => {
        const loader = await openLoader({ datasets: [{ folder: out }], length: 24, seed: 1 });
        const read: number[][] = (await loader.next(100)).map(plain);
        for await (const held of loader.heldOut()) read.push(...held.map(plain));
        await loader.close();
        return read;
      }),
    );
    expect(rows[0]!.every((row) => row.length === 25)).toBe(true);
    expect(rows[1]).toEqual(rows[0]);
    expect(rows[2]).toEqual(rows[0]);
  });

  it("is written whole or not at all", async () => {
    const { out } = await prepare([path("stories.txt")], { kind: "last", documents: 1 });
    const before = await readdir(folder);
    const bad = await write("halfway.jsonl", `${'{"text": "a b c"}\n'.repeat(1000)}{`);
    await expect(prepare([bad], { kind: "share", share: 0 }, { out })).rejects.toThrow(/halfway\.jsonl:1001/);
    const controller = new AbortController();
    const stop = { out, signal: controller.signal, onBytes: () => controller.abort(new Error("stopped")) };
    await expect(prepare([path("stories.txt")], { kind: "share", share: 0 }, stop)).rejects.toThrow("stopped");
    expect((await readdir(folder)).sort()).toEqual([...before, "halfway.jsonl"].sort());
    expect(await splitTexts(out, "heldOut")).toEqual(stories.slice(-1));
    await prepare([path("stories.txt")], { kind: "last", documents: 2 }, { out });
    expect(await splitTexts(out, "heldOut")).toEqual(stories.slice(-2));
    expect((await readdir(folder)).sort()).toEqual([...before, "halfway.jsonl"].sort());
  });

  it("needs text to train on", async () => {
    const empty = await write("none.txt", "\n<|endoftext|>\n \n");
    await expect(prepare([empty], { kind: "last", documents: 1 })).rejects.toThrow(/the sources hold none/);
    await expect(prepare([path("stories.txt")], { kind: "last", documents: 40 })).rejects.toThrow(
      /all 40 documents were held out/,
    );
    const silent = { ...opened.tokenizer, eosTokens: [] };
    await expect(prepare([empty], { kind: "last", documents: 1 }, { tokenizer: silent })).rejects.toThrow(
      /an end-of-text token is required/,
    );
  });

  it("is refused when it is damaged or does not belong to the others", async () => {
    const heldOut: HeldOut = { kind: "last", documents: 1 };
    const open = (...folders: string[]): Promise<unknown> =>
      openLoader({ datasets: folders.map((folder) => ({ folder })), length: 8, seed: 1 });
    const { out } = await prepare([path("stories.txt")], heldOut);
    await truncate(join(out, "train-00000.bin"), 1030);
    await expect(open(out)).rejects.toThrow(
      /train-00000\.bin: \d+ tokens of uint16 need a file of \d+ bytes, got 1030/,
    );
    await truncate(join(out, "train-00000.bin"), 3);
    await expect(open(out)).rejects.toThrow(/train-00000\.bin: an llm\.c token shard begins with/);
    await rm(join(out, "heldout-00000.bin"));
    await appendFile(join(out, "manifest.json"), "}");
    await expect(open(out)).rejects.toThrow(/manifest\.json: valid JSON was expected/);
    await expect(open(folder)).rejects.toThrow(/manifest\.json: a file was required, but there is nothing/);
    const files = new Map([["tokenizer.json", new Uint8Array([1])]]);
    const [a, b] = [
      await prepare([path("stories.txt")], heldOut),
      await prepare([path("stories.txt")], heldOut, { files }),
    ];
    await expect(open(a.out, b.out)).rejects.toThrow(/it was made with another\. Prepare both with one tokenizer/);
  });

  it("checks all that a manifest says", async () => {
    const { out } = await prepare([path("stories.txt")], { kind: "last", documents: 1 });
    const file = join(out, "manifest.json");
    const text = await readFile(file, "utf8");
    const failure = async (from: RegExp, to: string): Promise<string> => {
      expect(text).toMatch(from);
      await writeFile(file, text.replace(from, to));
      return openDataset(out).then(String, (error: Error) => error.message.replaceAll(`${out}/`, ""));
    };
    expect(await failure(/"version": 1/, '"version": 2')).toMatchInlineSnapshot(
      `"manifest.json: a data set of version 1 was required, got "mobilellm-data" version 2. Make it with "mobilellm data prepare"."`,
    );
    expect(await failure(/"dtype": "uint16"/, '"dtype": "uint8"')).toMatchInlineSnapshot(
      `"manifest.json: dtype must be uint16 or uint32, got "uint8"."`,
    );
    expect(await failure(/"dtype": "uint16"/, '"dtype": "uint32"')).toMatch(
      /^train-00000\.bin: \d+ tokens of uint32 were required/,
    );
    expect(await failure(/"tokens": \d+/, '"tokens": 7')).toMatch(/^manifest\.json: the shards of splits\.train hold/);
    expect(await failure(/"tokens": \d+/, '"tokens": -7')).toMatchInlineSnapshot(
      `"manifest.json: splits.train.tokens must be a whole number from 0 on, got -7."`,
    );
    expect(await failure(/"file": "train-00000.bin"/, '"file": "../train-00000.bin"')).toMatchInlineSnapshot(
      `"manifest.json: a shard in this folder was required, got ../train-00000.bin."`,
    );
    expect(await failure(/"sha256": "\w+"/, '"sha256": 5')).toMatchInlineSnapshot(
      `"manifest.json: tokenizer.sha256 must be text, got 5."`,
    );
    expect(await failure(/"splits"/, '"split"')).toMatchInlineSnapshot(
      `"manifest.json: splits must be an object, got undefined."`,
    );
  });
});

describe("tokens of others", () => {
  const tokensOf = async (file: string): Promise<number[]> => {
    const tokens: number[] = [];
    for (const source of await listTokenFiles([file]))
      for await (const chunk of readTokens(source)) tokens.push(...Array.from(chunk));
    return tokens;
  };

  it("go from a data set to MobileLLM's JSONL, to an llm.c shard, and back", async () => {
    const { out } = await prepare([path("stories.txt")], { kind: "share", share: 0 });
    const tokens = await tokensOf(out);
    const [source] = await listTokenFiles([out]);

    const jsonl = join(newPath(), "1", "stories.jsonl"); // the official code reads the first .jsonl of a folder for each node
    const { lines, dropped } = await writeTokenJsonl(jsonl, 31, readTokens(source!));
    expect(lines * 32 + dropped).toBe(tokens.length);
    const rows = (await readFile(jsonl, "utf8"))
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as object);
    expect(rows).toEqual(Array.from({ length: lines }, (_, i) => ({ token_ids: tokens.slice(32 * i, 32 * i + 32) })));
    expect(await tokensOf(join(jsonl, "..", ".."))).toEqual(tokens.slice(0, 32 * lines));

    for (const dtype of ["uint16", "uint32"] as const) {
      const shard = newPath(".bin");
      expect(await writeTokenShard(shard, dtype, readTokens(source!))).toBe(tokens.length);
      expect(await tokensOf(shard)).toEqual(tokens);
      const again = newPath();
      const manifest = await tokensToDataset({
        ...opened,
        sources: await listTokenFiles([shard]),
        out: again,
        heldOut: { kind: "last", documents: 2 },
      });
      expect([...(await splitTexts(again, "train")), ...(await splitTexts(again, "heldOut"))]).toEqual(stories);
      expect(manifest.splits.train).toMatchObject({
        documents: 38,
        bytes: Buffer.byteLength(stories.slice(0, 38).join("")),
      });
    }
  });

  it("are what they should be, or the line is named", async () => {
    const failure = async (content: string): Promise<string> => {
      const [source] = await listTokenFiles([await write("ids.jsonl", content)]);
      const read = async (): Promise<string> => {
        for await (const _ of readTokens(source!, { vocabSize: 285 }));
        return "read";
      };
      return read().catch((error: Error) => error.message.replaceAll(`${folder}/`, ""));
    };
    expect(await failure('{"token_ids": [1, 284]}')).toBe("read");
    expect(await failure('{"token_ids": []}\n{"token_ids": [1, 285]}')).toMatchInlineSnapshot(
      `"ids.jsonl:2: token 1 must be a whole number from 0 to 284, got 285."`,
    );
    expect(await failure('{"token_ids": [1, 2.5]}')).toMatchInlineSnapshot(
      `"ids.jsonl:1: token 1 must be a whole number from 0 to 284, got 2.5."`,
    );
    expect(await failure('{"token_ids": [1, "2"]}')).toMatchInlineSnapshot(
      `"ids.jsonl:1: token 1 must be a whole number from 0 to 284, got "2"."`,
    );
    expect(await failure('{"tokens": [1]}')).toMatchInlineSnapshot(
      `"ids.jsonl:1: a list "token_ids" is required, got "tokens"."`,
    );
    await expect(listTokenFiles([path("stories.txt")])).rejects.toThrow(
      /tokens as \.jsonl, \.jsonl\.gz or \.bin were required/,
    );
    async function* none(): AsyncGenerator<number[]> {}
    const before = await readdir(folder);
    await expect(writeTokenJsonl(newPath(".jsonl"), 4, none())).rejects.toThrow(/a line needs 5 tokens, there are 0/);
    await expect(writeTokenShard(newPath(".bin"), "uint16", none())).rejects.toThrow(/tokens were required/);
    expect(await readdir(folder)).toEqual(before);
  });
});

describe("conversations", () => {
  const lines = Array.from({ length: 30 }, (_, i) =>
    JSON.stringify({
      messages: [
        { role: "user", content: `How far is river ${i}?` },
        { role: "assistant", content: `${i} miles` },
      ],
    }),
  );

  it("become rows in which the answers are learned, drawn and resumed like others", async () => {
    const file = await write("chat.jsonl", lines.join("\n"));
    const open = { files: [file], tokenizer: opened.tokenizer, length: 120, seed: 1, heldOut: 0.2 };
    const loader = await openChatLoader(open);
    expect(loader.conversations).toBe(30);
    expect(loader.cut).toBe(0);
    const count = loader.position.parts[0]!.rows;
    const rows = await loader.next(count);
    const answers = rows.map(learnedText);
    for await (const held of loader.heldOut()) answers.push(...held.map(learnedText));
    expect(answers.sort()).toEqual(lines.map((_, i) => `${i} miles<|end|>`).sort());
    expect(count).toBeLessThan(30);
    expect(loader.heldOutBytesPerToken).toBeGreaterThan(0);
    const resumed = await openChatLoader({ ...open, position: loader.position });
    expect(await resumed.next(7)).toEqual(await loader.next(7));
    const packed = await openChatLoader({ ...open, packing: "pack" });
    expect(packed.position.parts[0]!.rows).toBeLessThan(count);
    expect(packed.tokensPerEpoch).toBe(loader.tokensPerEpoch);
  });

  it("name the line that is none", async () => {
    const failure = async (line: string): Promise<string> => {
      const files = [await write("bad-chat.jsonl", `${lines[0]}\n${line}`)];
      const failed = openChatLoader({ files, tokenizer: opened.tokenizer, length: 60, seed: 1 });
      return failed.then(String, (error: Error) => error.message.replaceAll(`${folder}/`, ""));
    };
    expect(await failure('{"text": "a"}')).toMatchInlineSnapshot(
      `"bad-chat.jsonl:2: a list "messages" is required, got "text"."`,
    );
    expect(await failure('{"messages": [{"role": "user"}]}')).toMatchInlineSnapshot(
      `"bad-chat.jsonl:2: message 0 needs a role and a content, both text, got {"role":"user"}."`,
    );
    expect(await failure("{")).toMatch(/^bad-chat\.jsonl:2: a line of JSON is required/);
  });

  function learnedText(row: Row): string {
    if (!("learn" in row)) throw new Error("a row of a conversation has a mask");
    return opened.tokenizer.decode(Array.from(row.tokens).filter((_, i) => row.learn[i] === 1));
  }
});

function plain(row: Row): number[] {
  return Array.from("learn" in row ? row.tokens : row);
}
