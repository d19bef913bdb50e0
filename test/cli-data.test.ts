/** `mobilellm data` as its users meet it. */
import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

type Outcome = { readonly status: number | null; readonly out: string; readonly err: string };

/** Runs `mobilellm data` to its end; `interrupt` resolves when it is time for Ctrl-C. */
function data(args: readonly string[], interrupt?: () => Promise<void>): Promise<Outcome> {
  const child = spawn(process.execPath, ["dist/cli/main.js", "data", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let err = "";
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (err += chunk.toString()));
  void interrupt?.().then(() => child.kill("SIGINT"));
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) =>
      resolve({ status, out: out.replaceAll(folder, "DIR"), err: err.replaceAll(folder, "DIR") }),
    );
  });
}

let folder: string;
const path = (name: string): string => join(folder, name);
const stories = Array.from(
  { length: 50 },
  (_, i) => `Once there was a turtle that had ${i} friends.\n\nThey all went to the river.`,
);

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mobilellm-cli-data-"));
  await writeFile(path("stories.txt"), stories.join("\n<|endoftext|>\n"));
});
afterAll(() => rm(folder, { recursive: true }));

describe("mobilellm data", () => {
  test("goes from text to a tokenizer, a data set, other formats and back", async () => {
    const [tok, set, jsonl, bin, again] = ["tok", "set", "rows/1/set.jsonl", "set.bin", "again"].map(path) as [
      string,
      string,
      string,
      string,
      string,
    ];
    const trained = await data(["tokenizer", path("stories.txt"), "--vocab-size", "275", "--out", tok]);
    expect(trained).toEqual({ status: 0, out: "DIR/tok: 275 entries, <|endoftext|> ends a text\n", err: "" });

    const prepared = await data([
      "prepare",
      path("stories.txt"),
      "--tokenizer",
      tok,
      "--out",
      set,
      "--held-out",
      "5",
      "--json",
    ]);
    expect(prepared).toMatchObject({ status: 0, err: "" });
    const manifest = JSON.parse(prepared.out) as {
      splits: Record<"train" | "heldOut", { tokens: number; documents: number }>;
    };
    expect([manifest.splits.train.documents, manifest.splits.heldOut.documents]).toEqual([45, 5]);
    const { out } = await data(["info", set]);
    expect(out).toMatch(/source +documents +tokens +held out +tokens +bytes\/token\nall +45 +/);
    expect(out).toMatch(/heldOut: "last 5"/);
    expect(JSON.parse((await data(["info", set, "--json"])).out)).toEqual(manifest);

    const lines = await data(["convert", set, "--out", jsonl, "--length", "31"]);
    expect(lines.out).toMatch(/^DIR\/rows\/1\/set\.jsonl: \d+ lines of 32 tokens, the last \d+ dropped\n$/);
    const rows = (await readFile(jsonl, "utf8")).trimEnd().split("\n");
    expect(rows.every((row) => (JSON.parse(row) as { token_ids: number[] }).token_ids.length === 32)).toBe(true);

    const held = await data(["convert", set, "--split", "held-out", "--out", bin]);
    expect(held.out).toBe(`DIR/set.bin: ${manifest.splits.heldOut.tokens} tokens of uint16\n`);
    expect(await readFile(bin)).toEqual(await readFile(join(set, "heldout-00000.bin")));

    await data(["convert", bin, "--tokenizer", tok, "--out", again, "--held-out", "1"]);
    const { splits } = JSON.parse(await readFile(join(again, "manifest.json"), "utf8")) as typeof manifest;
    expect([splits.train.documents, splits.heldOut.documents]).toEqual([4, 1]);
    expect(splits.train.tokens + splits.heldOut.tokens).toBe(manifest.splits.heldOut.tokens);
  });

  test.each([
    [["prepare", "SRC", "--tokenizer", "tok"], 2, "required option '--out <folder>' not specified"],
    [
      ["prepare", "SRC", "--tokenizer", "TOK", "--out", "OUT", "--held-out", "x"],
      2,
      "Expected a share of the documents",
    ],
    [["prepare", "SRC", "--tokenizer", "TOK", "--out", "OUT", "--helt-out", "1"], 2, "Did you mean --held-out"],
    [["prepare", "SRC", "--tokenizer", "TOK", "--out", "TOK"], 2, "exists. Pass --force to overwrite it."],
    [["prepare", "SRC", "--tokenizer", "TOK", "--out", "DIR", "--force"], 2, "holds other files, such as "],
    [["prepare", "SRC", "--tokenizer", "DIR", "--out", "OUT"], 1, "one in a .gguf file), it holds none."],
    [
      ["prepare", "nowhere", "--tokenizer", "TOK", "--out", "OUT"],
      1,
      "nowhere: a file or folder with text was required",
    ],
    [["tokenizer", "SRC", "--vocab-size", "9000", "--out", "OUT"], 1, "a vocabulary of 9000 needs more text"],
    [["tokenizer", "SRC", "--vocab-size", "100", "--out", "OUT"], 1, "vocabSize must be a whole number from 257"],
    [["convert", "SRC", "--out", "OUT.bin"], 1, "tokens as .jsonl, .jsonl.gz or .bin were required."],
    [["convert", "SRC", "--out", "OUT"], 2, "a data set needs --tokenizer."],
    [["convert", "SRC", "--out", "OUT.jsonl", "--dtype", "uint16"], 2, "--dtype is for a .bin file."],
    [["info", "DIR"], 1, "manifest.json: a file was required, but there is nothing at this path."],
  ])("%j ends with %i and one line", async (args, status, message) => {
    const names: Record<string, string> = { SRC: path("stories.txt"), TOK: path("tok"), DIR: folder };
    const outcome = await data(args.map((arg) => names[arg] ?? arg.replace(/^OUT/, path("refused"))));
    expect(outcome.status).toBe(status);
    expect(outcome.out).toBe("");
    expect(outcome.err).toMatch(/^mobilellm: [^\n]+\n$/);
    expect(outcome.err).toContain(message);
  });

  test("stops on Ctrl-C and leaves nothing behind", async () => {
    await writeFile(path("long.txt"), stories.join(" ").repeat(8000));
    const before = (await readdir(folder)).sort();
    const isWriting = async (): Promise<void> => {
      for (let tries = 0; tries < 2000; tries++) {
        if ((await readdir(folder)).some((name) => name.startsWith(".stopped."))) return;
        await sleep(10);
      }
    };
    const outcome = await data(
      ["prepare", path("long.txt"), "--tokenizer", path("tok"), "--out", path("stopped")],
      isWriting,
    );
    expect(outcome).toMatchObject({ status: 130, out: "", err: "" });
    expect((await readdir(folder)).sort()).toEqual(before);
  });
});
