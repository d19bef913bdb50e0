import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createFakeModel } from "../../test/support/fake-model.ts";
import { chooseFiles, memoryData, parseRows, readSplit } from "./data.ts";
import { evaluate } from "../entries/node/evaluation.ts";
import { createRow } from "./row.ts";
import type { ChoiceTask, GenerateTask } from "./task.ts";
import { tasks } from "./task-list.ts";

const choice = (name: string, fields: object): unknown =>
  (tasks.get(name) as ChoiceTask).document(createRow(fields as Record<string, unknown>, "row"));

describe("a task reads", () => {
  // The uniform files, the Hub's fields, the original authors' files.
  test.each<[string, object, ...object[]]>([
    [
      "arc_easy",
      { question: "Q?", choices: ["x", "y"], gold: 1 },
      { question: "Q?", choices: { text: ["x", "y"], label: ["1", "2"] }, answerKey: "2" },
      {
        question: {
          stem: "Q?",
          choices: [
            { text: "x", label: "A" },
            { text: "y", label: "B" },
          ],
        },
        answerKey: "B",
      },
    ],
    [
      "openbookqa",
      { question: "A lamp is", choices: ["x", "y"], gold: 0 },
      { question_stem: "A lamp is", choices: { text: ["x", "y"], label: ["A", "B"] }, answerKey: " A" },
      {
        question: {
          stem: "A lamp is",
          choices: [
            { text: "x", label: "A" },
            { text: "y", label: "B" },
          ],
        },
        answerKey: "A",
      },
    ],
    [
      "boolq",
      { context: "P.", question: "is it", choices: ["no", "yes"], gold: 1 },
      { passage: "P.", question: "is it", label: 1 },
      { passage: "P.", question: "is it", answer: true },
    ],
    ["piqa", { question: "G", choices: ["a", "b"], gold: 1 }, { goal: "G", sol1: "a", sol2: "b", label: 1 }],
    [
      "social_iqa",
      { context: "C.", question: "Q?", choices: ["a", "b", "c"], gold: 2 },
      { context: "C.", question: "Q?", answerA: "a", answerB: "b", answerC: "c", label: "3" },
    ],
    [
      "hellaswag",
      { query: "L: a. B", choices: ["x", "y"], gold: 1 },
      { activity_label: "L", ctx_a: "a.", ctx_b: "b", endings: ["x", "[step]y"], label: "1" },
    ],
    [
      "winogrande",
      { question: "He met _ twice.", choices: ["Ann", "Bob"], gold: 0 },
      { sentence: "He met _ twice.", option1: "Ann", option2: "Bob", answer: "1" },
    ],
    [
      "race_middle",
      { context: "A.", question: "Q?", choices: ["a", "b", "c", "d"], gold: 3 },
      { article: "A.", question: "Q?", options: ["a", "b", "c", "d"], answer: "D" },
    ],
  ])("%s from each kind of file", (name, uniform, ...others) => {
    for (const fields of others) expect(choice(name, fields)).toEqual(choice(name, uniform));
  });

  test("references by either name", () => {
    const read = (name: string, fields: object): unknown =>
      (tasks.get(name) as GenerateTask).document(createRow(fields as Record<string, unknown>, "row"));
    expect(read("triviaqa", { question: "Q?", answer: "X", aliases: ["X", "Y"] })).toEqual(
      read("triviaqa", { question: "Q?", answer: { value: "X", aliases: ["X", "Y"] } }),
    );
    expect(read("nq_open", { question: "q", answers: ["X"] })).toEqual(
      read("nq_open", { question: "q", answer: ["X"] }),
    );
  });

  test("RACE by article from a question a row, with the cloze of version 3 and without", async () => {
    const rows = [
      { example_id: "1", context: "A dog.", question: "It is a  _  .", choices: ["cat", "dog", "c", "d"], gold: 1 },
      { example_id: "2", context: "B.", question: "Who?", choices: ["a", "b", "c", "d"], gold: 0 },
      { example_id: "1", context: "A dog.", question: "Why?", choices: ["a", "b", "c", "d"], gold: 2 },
    ];
    const data = memoryData({ "race_high_subset3.jsonl": rows.map((row) => JSON.stringify(row)).join("\n") });
    const contexts = async (name: string): Promise<unknown> => {
      const task = tasks.get(name) as ChoiceTask;
      const found = task.prepare!((await readSplit(data, task.data))!);
      return found.map((row) => task.document(row).context);
    };
    expect(await contexts("race")).toEqual(["Article: A dog.\n\nIt is a dog\nWhy?", "Article: B.\n\nWho?"]);
    expect(await contexts("race@2")).toEqual([
      "Article: A dog.\n\nQuestion: It is a  _  .\nAnswer: dog\nWhy?",
      "Article: B.\n\nWho?",
    ]);
  });

  test.each([
    ["arc_easy", { question: "Q?" }],
    ["arc_easy", { question: "Q?", choices: ["a"], gold: 1 }],
    ["arc_easy", { question: "Q?", choices: { text: ["a"], label: ["A"] }, answerKey: "B" }],
    ["piqa", { goal: 3, sol1: "a", sol2: "b", label: 1 }],
    ["winogrande", { sentence: "no blank", option1: "a", option2: "b", answer: "1" }],
    ["race", { article: "A.", problems: "[{'question': 'x" }],
  ])("%s not from what lacks something", (name, fields) => {
    expect(() => choice(name, fields)).toThrowErrorMatchingSnapshot();
  });
});

describe("files", () => {
  test("Parquet in two compressions, gzip, JSON and JSON lines", async () => {
    const expected = [0, 1, 2, 3].map((i) => ({
      goal: `To lift lamp ${i},`,
      sol1: `use a naïve ladder ${i}`,
      sol2: `wait for owl ${i}`,
      label: BigInt(i % 2),
    }));
    for (const codec of ["snappy", "zstd"]) {
      const bytes = await readFile(`test/fixtures/evaluation/piqa-${codec}.parquet`);
      const rows = await parseRows("x.parquet", bytes);
      expect(rows.map(({ fields }) => fields)).toEqual(expected);
      expect(rows[1]!.integer("label")).toBe(1);
      await expect(parseRows("x.parquet", bytes.subarray(0, 900))).rejects.toThrow(
        "x.parquet: a Parquet file was required",
      );
    }
    const text = Buffer.from('{"a":1}\n\n{"a":2}\n');
    expect((await parseRows("x.jsonl.gz", gzipSync(text))).map(({ where }) => where)).toEqual([
      "x.jsonl, line 1",
      "x.jsonl, line 3",
    ]);
    expect((await parseRows("x.json", Buffer.from('[{"a":1}]')))[0]!.integer("a")).toBe(1);
    expect((await parseRows("x.txt", Buffer.from("\ufeffwords")))[0]!.text("text")).toBe("\ufeffwords");
    const refused: [string, Uint8Array][] = [
      ["x.jsonl", Buffer.from("{")],
      ["x.jsonl", Buffer.from("[1]")],
      ["x.json", Buffer.from("{}")],
      ["x.txt", Uint8Array.of(0xff)],
      ["x.txt.gz", Buffer.from("no")],
    ];
    for (const [path, bytes] of refused) await expect(parseRows(path, bytes)).rejects.toThrow(/^x\./);
  });

  test("are chosen by our names, then by the Hub's layouts", () => {
    const { data } = tasks.get("arc_easy")!;
    const choose = (...paths: string[]): readonly string[] => chooseFiles(paths, data);
    expect(choose("arc_easy_train.jsonl", "arc_easy.jsonl", "ARC-Easy/test-00000-of-00001.parquet")).toEqual([
      "arc_easy.jsonl",
    ]);
    expect(choose("x/arc_easy.parquet", "arc_easy_dev.jsonl")).toEqual(["x/arc_easy.parquet"]);
    expect(choose("ARC-Easy-Test.jsonl")).toEqual(["ARC-Easy-Test.jsonl"]);
    expect(
      choose("ARC-Challenge/test-0.parquet", "ARC-Easy/test-1-of-2.parquet", "ARC-Easy/test-0-of-2.parquet"),
    ).toEqual(["ARC-Easy/test-0-of-2.parquet", "ARC-Easy/test-1-of-2.parquet"]);
    expect(choose("ai2_arc/ARC-Easy/test/0000.parquet")).toEqual(["ai2_arc/ARC-Easy/test/0000.parquet"]);
    expect(choose("ARC-Easy/train-00000-of-00001.parquet", "arc_easyish.jsonl")).toEqual([]);
    expect(chooseFiles(["triviaqa_subset3000.jsonl"], tasks.get("triviaqa")!.data)).toEqual([
      "triviaqa_subset3000.jsonl",
    ]);
    expect(chooseFiles(["race_middle_validation.jsonl"], tasks.get("race_middle")!.data)).toEqual([]);
  });
});

describe("the Hub, played by a server", () => {
  const commits = { main: "0".repeat(39).concat("1"), "refs/convert/parquet": "0".repeat(39).concat("2") };
  let server: Server;
  let cacheDir: string;
  let requests: string[];

  beforeEach(async () => {
    const parquet = await readFile("test/fixtures/evaluation/piqa-snappy.parquet");
    requests = [];
    cacheDir = await mkdtemp(join(tmpdir(), "mobilellm-hub-"));
    const repositories: Record<string, Record<string, Buffer>> = {
      [commits.main]: { "README.md": Buffer.from("hello"), "piqa.py": Buffer.from("no data") },
      [commits["refs/convert/parquet"]]: {
        "default/validation/0000.parquet": parquet,
        "default/train/0000.parquet": await readFile("test/fixtures/evaluation/piqa-zstd.parquet"),
      },
    };
    server = createServer((request, response) => {
      const path = decodeURIComponent(new URL(request.url!, "http://x").pathname);
      requests.push(path);
      const json = (value: unknown): unknown =>
        response.setHeader("content-type", "application/json").end(JSON.stringify(value));
      const [, revision] = /^\/api\/datasets\/baber\/piqa\/revision\/(.+)$/.exec(path) ?? [];
      const [, tree] = /^\/api\/datasets\/baber\/piqa\/tree\/(\w+)$/.exec(path) ?? [];
      const [, commit, file] = /^\/datasets\/baber\/piqa\/resolve\/(\w+)\/(.+)$/.exec(path) ?? [];
      if (revision && revision in commits) {
        json({ _id: "1", id: "baber/piqa", sha: commits[revision as keyof typeof commits] });
      } else if (tree) {
        const entries = Object.entries(repositories[tree]!);
        json(
          entries.map(([path, bytes]) => ({
            type: "file",
            path,
            size: bytes.length,
            oid: createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex"),
          })),
        );
      } else if (commit && file) response.end(repositories[commit]![file]);
      else response.writeHead(404).end();
    }).listen(0);
  });

  afterEach(async () => {
    server.close();
    await rm(cacheDir, { recursive: true });
  });

  test("gives a task's split, with progress, once; afterwards the cache does without a network", async () => {
    const { model } = createFakeModel({ vocabSize: 256, contextLength: 300 });
    const endpoint = `http://localhost:${(server.address() as AddressInfo).port}`;
    const progress: number[] = [];
    const hub = { endpoint, cacheDir, onProgress: (step: { loadedBytes: number }) => progress.push(step.loadedBytes) };
    const options = { tasks: ["piqa"], fewShot: 1, samples: true };
    const first = await evaluate(model, { ...options, hub });
    expect(first.tasks["piqa"]!.documents).toBe(4);
    expect(progress.at(-1)).toBeGreaterThan(1000);
    const downloads = (): string[] => requests.filter((path) => path.includes("/resolve/"));
    expect(downloads().map((path) => path.split("/").slice(-3).join("/"))).toEqual([
      "default/validation/0000.parquet",
      "default/train/0000.parquet",
    ]);
    requests.length = 0;
    await evaluate(model, { ...options, hub });
    expect(downloads()).toEqual([]);
    requests.length = 0;
    const offline = await evaluate(model, { ...options, hub: { cacheDir, endpoint, offline: true } });
    expect(requests).toEqual([]);
    expect(offline.tasks["piqa"]!.samples).toEqual(first.tasks["piqa"]!.samples);
    await expect(evaluate(model, { tasks: ["arc_easy"], hub: { cacheDir, endpoint } })).rejects.toThrow(
      "allenai/ai2_arc: there is no such",
    );
  });
});
