import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { createFakeModel } from "../../test/support/fake-model.ts";
import { memoryData } from "./data.ts";
import { evaluate, type EvaluateOptions } from "./evaluate.ts";
import { evaluate as evaluateInNode } from "../entries/node/evaluation.ts";
import { strip } from "./python.ts";
import { renderReport } from "./report.ts";
import type { ResultStore, StoredResult } from "./result-store.ts";
import { type ChoiceTask, defineTask } from "./task.ts";

const small = { vocabSize: 256, contextLength: 128 };
const lines = (rows: readonly object[]): string => rows.map((row) => JSON.stringify(row)).join("\n");
const piqaRows = Array.from({ length: 6 }, (_, i) => ({
  goal: `To lift ${i % 2 === 0 ? "a lamp" : "an owl"},`,
  sol1: `use ladder ${i}`,
  sol2: "wait",
  label: i % 2,
}));
const piqa = memoryData({ "piqa.jsonl": lines(piqaRows) });

describe("evaluate", () => {
  test("scores as model.score does, and runs what requests share once", async () => {
    const { model, runner } = createFakeModel(small);
    const { tasks } = await evaluate(model, { tasks: "piqa", data: piqa, samples: true, unconditional: false });
    const { samples, documents, metrics } = tasks["piqa"]!;
    expect(documents).toBe(6);
    let right = 0;
    for (const [i, { requests, target }] of samples!.entries()) {
      const scores = [];
      for (const request of requests) {
        if (!("continuation" in request)) throw new Error("a continuation was expected");
        // A model of its own for each: nothing in its cache.
        const alone = await scoreAlone(request.context, request.continuation);
        expect(request.logprob).toBeCloseTo(alone.logprob, 10);
        expect(request.isGreedy).toBe(alone.isGreedy);
        scores.push(alone.logprob);
      }
      expect(target).toBe(i % 2);
      right += Number(scores.indexOf(Math.max(...scores)) === target);
    }
    expect(metrics["acc"]!.value).toBeCloseTo(right / 6, 12);
    const tokens = runner.calls.reduce((sum, call) => sum + call.length, 0);
    // Both contexts once, " wait" once after each, " use ladder " with its digit after the context: never the whole again.
    const contexts = "Question: To lift a lamp,\nAnswer:".length + "\nAnswer:".length + "an owl,".length;
    expect(tokens).toBeLessThan(contexts + 6 * " use ladder 0".length + 2 * " wait".length);
  });

  test("is the same whatever was asked before, and goes on from stored answers without running anything", async () => {
    const answers = new Map<string, StoredResult>();
    const results: ResultStore = {
      get: (key) => answers.get(key),
      set: (key, result) => void answers.set(key, result),
    };
    const options: EvaluateOptions = { tasks: ["piqa"], data: piqa, samples: true };
    const first = await evaluate(createFakeModel(small).model, options);
    const controller = new AbortController();
    const { model: stopped } = createFakeModel(small);
    await expect(
      evaluate(stopped, {
        ...options,
        results,
        signal: controller.signal,
        onProgress: ({ done }) => done === 4 && controller.abort(new Error("enough")),
      }),
    ).rejects.toThrow("enough");
    expect(answers.size).toBe(4);
    const { model, runner } = createFakeModel(small);
    const second = await evaluate(model, { ...options, results });
    expect(second.tasks["piqa"]!.samples).toEqual(first.tasks["piqa"]!.samples);
    runner.calls.length = 0;
    await evaluate(model, { ...options, results });
    expect(runner.calls).toEqual([]);
  });

  test("progress counts every request of every task", async () => {
    const steps: number[] = [];
    let total = 0;
    const data = memoryData({ "piqa.jsonl": lines(piqaRows), "story.txt": "once upon a time" });
    await evaluate(createFakeModel(small).model, {
      tasks: ["piqa", "story.txt"],
      data,
      onProgress: (step) => {
        steps.push(step.done);
        total = step.total;
        expect(step.fraction).toBeLessThanOrEqual(1 + 1e-12);
      },
    });
    expect(steps).toEqual(Array.from({ length: total }, (_, i) => i + 1));
  });

  test("a text's bits per byte, in windows and whole", async () => {
    const text = "the owl mends the lamp. ".repeat(12);
    const run = async (contextLength: number): Promise<number> => {
      const { model } = createFakeModel({ ...small, contextLength: 400 });
      const data = memoryData({ "story.txt": text });
      const { tasks } = await evaluate(model, { tasks: ["story.txt"], data, contextLength });
      return tasks["story.txt"]!.metrics["bits_per_byte"]!.value;
    };
    const { model } = createFakeModel({ ...small, contextLength: 400 });
    const tokens = model.tokenizer!.encode(text);
    const whole = await scoreTokensAlone([255], tokens, 400);
    expect(await run(400)).toBeCloseTo(-whole / tokens.length / Math.LN2, 10);
    const windows =
      (await scoreTokensAlone([255], tokens.slice(0, 200), 400)) +
      (await scoreTokensAlone(tokens.slice(87, 200), tokens.slice(200), 400));
    expect(await run(200)).toBeCloseTo(-windows / tokens.length / Math.LN2, 10);
  });

  test("WikiText-2's two perplexities come from one raw file", async () => {
    const raw =
      " \n = Lamp = \n \n The lamp is old . \n = = Use = = \n It burns . \n \n = Owl = \n \n The owl @-@ like . \n";
    const { model } = createFakeModel({ ...small, contextLength: 40 });
    const { tasks } = await evaluate(model, {
      tasks: ["wikitext", "wikitext2_token_ppl"],
      data: memoryData({ "wikitext2/wiki.test.raw": raw }),
      samples: true,
    });
    expect(tasks["wikitext"]!.samples!.map(({ target }) => target)).toEqual([
      " = Lamp =\n\nThe lamp is old.\n== Use ==\nIt burns.\n",
      " = Owl =\n\nThe owl-like.\n",
    ]);
    expect(
      tasks["wikitext"]!.samples!.map(({ metrics }) => (metrics["word_perplexity"] as readonly number[])[1]),
    ).toEqual([18, 10]);
    const [sample] = tasks["wikitext2_token_ppl"]!.samples!;
    // The Hub's rows, blank lines empty, joined by two line breaks.
    expect(sample!.target).toMatch(/^\n\n = Lamp = \n\n\n\n\n The lamp is old \. \n\n\n = = Use/);
    const tokens = model.tokenizer!.encode(sample!.target as string);
    let logprob = 0;
    const chunks = Math.floor(tokens.length / 40);
    for (let i = 0; i < chunks; i++) {
      const chunk = tokens.slice(40 * i, 40 * i + 40);
      logprob += await scoreTokensAlone(chunk.slice(0, 1), chunk.slice(1), 40);
    }
    expect(tasks["wikitext2_token_ppl"]!.metrics["token_perplexity"]!.value).toBeCloseTo(
      Math.exp(-logprob / chunks / 39),
      8,
    );
  });

  test("answers are cut at the first stop and stripped", async () => {
    const { model } = createFakeModel({ vocabSize: 128, contextLength: 400 });
    const data = memoryData({
      "nq_open.jsonl": lines([{ question: "who mends lamps", answer: ["the owl", "an owl"] }]),
    });
    const { tasks } = await evaluate(model, { tasks: ["nq_open"], data, samples: true });
    const [request] = tasks["nq_open"]!.samples![0]!.requests;
    expect(request).toMatchObject({ context: "Answer these questions:\n\nQ: who mends lamps?\nA:" });
    const { text } = await createFakeModel({ vocabSize: 128, contextLength: 400 }).model.generate(request!.context, {
      temperature: 0,
      maxTokens: 256,
      stop: ["\n", ".", ","],
    }).result;
    expect(request).toMatchObject({ generated: strip(text) });
  });

  test("a task of one's own, with all three rules", async () => {
    const colours: ChoiceTask = defineTask({
      name: "colours",
      version: 1,
      kind: "choice",
      data: { names: ["colours"] },
      paperRule: "unconditional",
      document: (row) => ({ context: row.text("thing"), choices: row.texts("options"), gold: row.integer("gold") }),
    });
    const { model } = createFakeModel(small);
    const data = memoryData({
      "colours.json": JSON.stringify([{ thing: "snow is", options: ["white", "red"], gold: 0 }]),
    });
    const { tasks } = await evaluate(model, { tasks: [colours], data, samples: true });
    const { requests, unconditional, metrics } = tasks["colours"]!.samples![0]!;
    const logprobs = requests.map((request) => ("logprob" in request ? request.logprob : 0));
    expect(unconditional).toHaveLength(2);
    for (const [i, choice] of [" white", " red"].entries()) {
      expect(unconditional![i]).toBeCloseTo((await scoreAlone("Answer:", choice)).logprob, 10);
    }
    const wins = (values: number[]): number => Number(values[0]! >= values[1]!);
    expect(metrics).toEqual({
      acc: wins(logprobs),
      acc_norm: wins([logprobs[0]! / 5, logprobs[1]! / 3]),
      acc_uncond: wins(logprobs.map((logprob, i) => logprob - unconditional![i]!)),
      mobilellm_score: wins(logprobs.map((logprob, i) => logprob - unconditional![i]!)),
    });
  });

  test("refuses what has no meaning, before anything runs", async () => {
    const { model, runner } = createFakeModel(small);
    const refusal = async (options: object): Promise<string> => {
      try {
        await evaluate(model, { data: piqa, ...options });
        return "none";
      } catch (error) {
        return String(error);
      }
    };
    expect(await refusal({ tasks: ["picqa"] })).toMatchInlineSnapshot(
      `"RangeError: tasks: unknown task "picqa". Did you mean "piqa"?"`,
    );
    expect(await refusal({ tasks: ["piqa"], limits: 3 })).toMatchInlineSnapshot(
      `"TypeError: evaluate: unknown option "limits". Did you mean "limit"?"`,
    );
    expect(await refusal({ tasks: ["piqa"], limit: 0 })).toMatchInlineSnapshot(
      `"RangeError: evaluate.limit: expected a whole number of 1 or more, got 0."`,
    );
    expect(await refusal({ tasks: ["piqa"], contextLength: 4096 })).toMatchInlineSnapshot(
      `"RangeError: evaluate.contextLength: expected a whole number from 2 to 128, got 4096."`,
    );
    expect(await refusal({ tasks: ["piqa"], fewShot: 6 })).toMatchInlineSnapshot(
      `"RangeError: fewShot: piqa has 6 rows to draw 7 examples from. Ask for fewer, or add a file with more."`,
    );
    expect(
      await refusal({ tasks: ["wikitext"], fewShot: 1, data: memoryData({ "wikitext.json": "[]" }) }),
    ).toMatchInlineSnapshot(
      `"RangeError: fewShot: wikitext scores whole texts, which take no examples. Leave it out."`,
    );
    expect(
      await refusal({ tasks: ["nq_open"], data: memoryData({ "nq_open.json": '[{"question":"","answer":[]}]' }) }),
    ).toMatchInlineSnapshot(
      `"RangeError: contextLength: nq_open needs room for an answer of 256 tokens. Load the model with a longer one."`,
    );
    expect(await refusal({ tasks: ["arc_easy"] })).toMatchInlineSnapshot(
      `"MissingDataError: arc_easy: arc_easy.jsonl or ARC-Easy-Test.jsonl was required in data, and is not there. Get it from https://huggingface.co/datasets/allenai/ai2_arc (ARC-Easy, test), or leave the data option out to download it."`,
    );
    expect(runner.calls).toEqual([]);
    const { missing, tasks } = await evaluate(model, {
      data: piqa,
      tasks: ["arc_easy", "piqa"],
      skipMissing: true,
      limit: 1,
    });
    expect(Object.keys(missing)).toEqual(["arc_easy"]);
    expect(Object.keys(tasks)).toEqual(["piqa"]);
  });
});

describe("in Node", () => {
  test("a stopped run goes on from its file, which no other model may use", async () => {
    const folder = await mkdtemp(join(tmpdir(), "mobilellm-evaluation-"));
    try {
      await writeFile(join(folder, "piqa.jsonl"), lines(piqaRows));
      const resume = join(folder, "answers.jsonl");
      const options = { tasks: ["piqa"], data: folder, resume };
      const controller = new AbortController();
      await expect(
        evaluateInNode(createFakeModel(small).model, {
          ...options,
          signal: controller.signal,
          onProgress: ({ done }) => done === 3 && controller.abort(new Error("enough")),
        }),
      ).rejects.toThrow("enough");
      // A crash in the middle of a line.
      await writeFile(resume, `${await readFile(resume, "utf8")}["half`);
      const { model, runner } = createFakeModel(small);
      const second = await evaluateInNode(model, options);
      const expected = await evaluateInNode(createFakeModel(small).model, { ...options, resume: undefined });
      expect(second.tasks["piqa"]!.metrics).toEqual(expected.tasks["piqa"]!.metrics);
      const answered = (await readFile(resume, "utf8")).trimEnd().split("\n");
      expect(answered.length - 1).toBe(8 + 7); // distinct requests, and choices after "Answer:"
      expect(answered.map((line) => JSON.parse(line) as unknown)).not.toContain(undefined);
      runner.calls.length = 0;
      await evaluateInNode(model, options);
      expect(runner.calls.flat()).toHaveLength(8); // only what identifies the model
      const other = createFakeModel({ ...small, vocabSize: 257 }).model;
      await expect(evaluateInNode(other, options)).rejects.toThrow(/holds answers of fake\/f32\/\w+, this model is/);
      await writeFile(resume, '{"a":1}\n');
      await expect(evaluateInNode(model, options)).rejects.toThrow("answers of an earlier run were required");
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test("says which folder can't be read", async () => {
    const { model } = createFakeModel(small);
    await expect(
      evaluateInNode(model, { tasks: ["piqa"], data: "/nowhere" }),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: /nowhere: a folder of evaluation data was required, and it can't be read. Check the path.]`,
    );
  });
});

test("the report needs nothing else and escapes what comes from outside", async () => {
  const { model } = createFakeModel(small);
  const evaluation = await evaluate(model, { tasks: ["piqa"], data: piqa });
  const named = { ...evaluation, model: { ...evaluation.model, name: "<script>alert(1)</script>" } };
  const page = renderReport([named, { ...named, model: { ...named.model, dtype: "q8" } }]);
  expect(page).not.toContain("<script");
  expect(page).not.toMatch(/(?:src|href)=/);
  for (const text of ["OPT-125M", "MobileLLM-LS-125M", "mobilellm_score", "acc_uncond"]) expect(page).toContain(text);
  expect(() => renderReport([])).toThrow("at least one evaluation");
});

async function scoreAlone(context: string, continuation: string): Promise<{ logprob: number; isGreedy: boolean }> {
  const { model } = createFakeModel(small);
  const encode = (text: string): number[] => model.tokenizer!.encode(text);
  const { score } = await import("../inference/score.ts");
  const [result] = await score(model.session, undefined, [
    { context: encode(context), continuation: encode(continuation) },
  ]);
  return result!;
}

async function scoreTokensAlone(context: number[], continuation: number[], contextLength: number): Promise<number> {
  const { model } = createFakeModel({ ...small, contextLength });
  const { score } = await import("../inference/score.ts");
  return (await score(model.session, undefined, [{ context, continuation }]))[0]!.logprob;
}
