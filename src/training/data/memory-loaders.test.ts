import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTokenizer } from "../../tokenizer/create-tokenizer.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { openChatLoader } from "./node-chat-loader.ts";
import { openLoader } from "./node-loader.ts";
import { loadConversations, loadTexts } from "./memory-loaders.ts";
import type { Loader } from "./loader.ts";
import { type DatasetTokenizer, prepareDataset } from "./node-prepare.ts";
import { listSources } from "./node-sources.ts";
import { trainTokenizer } from "./node-train-tokenizer.ts";
import type { Row } from "./rows.ts";

const texts = Array.from({ length: 30 }, (_, i) => `Story ${i}.\n\nThe 🐢 number ${i} went to the river, żółw.`);
texts[5] = " \n"; // no document
texts[7] = "a word and ".repeat(20_000).trim(); // longer than what is encoded at once
const conversations = Array.from({ length: 9 }, (_, i) => [
  { role: "user", content: `Hello ${i}` },
  { role: "assistant", content: `To you too, ${i * i}!` },
]);

let root: string;
let opened: DatasetTokenizer;
let tokenizer: Tokenizer;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "mobilellm-memory-"));
  await writeFile(join(root, "texts.jsonl"), texts.map((text) => JSON.stringify({ text })).join("\n"));
  const files = await trainTokenizer({
    vocabSize: 285,
    specialTokens: ["<|endoftext|>", "<|end|>"],
    sources: await listSources([join(root, "texts.jsonl")]),
  });
  const config = JSON.parse(new TextDecoder().decode(files.get("tokenizer_config.json"))) as Record<string, unknown>;
  config["chat_template"] =
    "{% for message in messages %}{{ message.role }}: {{ message.content }}<|end|>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}";
  tokenizer = createTokenizer({ kind: "files", tokenizerJson: files.get("tokenizer.json")!, config })!;
  opened = { tokenizer, files };
});
afterAll(() => rm(root, { recursive: true }));

/** Rows of an epoch and a little more, the held-out ones, and where that leaves the loader. */
async function contentOf(loader: Loader, count: number): Promise<unknown> {
  const plain = (row: Row): unknown =>
    "tokens" in row ? { tokens: Array.from(row.tokens), learn: Array.from(row.learn) } : Array.from(row);
  const rows = (await loader.next(count)).map(plain);
  const heldOut: unknown[] = [];
  for await (const some of loader.heldOut()) heldOut.push(...some.map(plain));
  const { position, epoch, tokensPerEpoch, heldOutBytesPerToken } = loader;
  return { rows, heldOut, position, epoch, tokensPerEpoch, heldOutBytesPerToken };
}

describe("texts", () => {
  it("give the rows that a data set of them gives", async () => {
    const out = join(root, "data");
    const heldOut = { kind: "last", documents: 4 } as const;
    await prepareDataset({ ...opened, out, heldOut, sources: await listSources([join(root, "texts.jsonl")]) });
    const loader = await openLoader({ datasets: [{ folder: out }], length: 24, seed: 3 });
    const { position } = loader;
    const count = position.parts[0]!.rows + 5;
    const inMemory = loadTexts(texts, { tokenizer, length: 24, seed: 3, heldOut: 4 });
    expect(await contentOf(inMemory, count)).toEqual(await contentOf(loader, count));
    await loader.close();
  });

  it("go on from a position", async () => {
    const options = { tokenizer, length: 16, seed: 1 };
    const loader = loadTexts(texts, options);
    await loader.next(7);
    const position: unknown = JSON.parse(JSON.stringify(loader.position));
    expect(await loadTexts(texts, { ...options, position }).next(3)).toEqual(await loader.next(3));
  });

  it("are refused with a way on", () => {
    const options = { tokenizer, length: 16, seed: 1 };
    const failure =
      (given: object, all: readonly string[] = texts) =>
      (): unknown =>
        loadTexts(all, { ...options, ...given });
    expect(failure({}, ["", " "])).toThrow("texts: tokens to train on were required, it holds none.");
    expect(failure({ heldOut: 100 })).toThrow("texts: tokens to train on were required, it holds none.");
    expect(failure({ heldOut: 0.5 })).toThrow("loadTexts.heldOut: expected a whole number of 0 or more, got 0.5.");
    expect(failure({ length: 0 })).toThrow("loadTexts.length: expected a whole number of 1 or more, got 0.");
    expect(failure({ rows: 8 })).toThrow(/^loadTexts: .*rows/);
  });
});

describe("conversations", () => {
  it.each(["pad", "pack"] as const)("give the rows that a file of them gives (%s)", async (packing) => {
    const file = join(root, "chats.jsonl");
    await writeFile(file, conversations.map((messages) => JSON.stringify({ messages })).join("\n"));
    const options = { tokenizer, length: 60, seed: 2, packing, heldOut: 0 };
    const fromFile = await openChatLoader({ ...options, files: [file] });
    const inMemory = loadConversations(conversations, options);
    expect(inMemory.conversations).toBe(9);
    expect(await contentOf(inMemory, 12)).toEqual(await contentOf(fromFile, 12));
  });

  it("at the end can be held out", async () => {
    const loader = loadConversations(conversations, { tokenizer, length: 60, seed: 2, heldOut: 2 });
    const heldOut: Row[] = [];
    for await (const rows of loader.heldOut()) heldOut.push(...rows);
    expect(heldOut).toHaveLength(2);
    expect(loader.position.parts).toEqual([{ rows: 7, drawn: 0 }]);
  });
});
