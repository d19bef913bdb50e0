/** Against test/fixtures/evaluation/harness.json: what lm-evaluation-harness itself does with made-up documents. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { createFakeModel } from "../../test/support/fake-model.ts";
import { encodePair } from "../inference/score.ts";
import { exactMatch } from "./answers.ts";
import { memoryData } from "./data.ts";
import { evaluate, type Sample } from "./evaluate.ts";
import { createPythonRandom } from "./mersenne-twister.ts";
import { capitalize, splitSpaces, strip } from "./python.ts";
import { parsePythonLiteral } from "./python-literal.ts";
import { generationKey, pairKey, type ResultStore, type StoredResult } from "./result-store.ts";
import { rollingWindows } from "./rolling.ts";
import type { GenerateTask } from "./task.ts";
import { tasks } from "./task-list.ts";

type Shot = {
  readonly samples: readonly {
    readonly target: unknown;
    readonly arguments: readonly (readonly string[])[];
    readonly resps: readonly unknown[];
    readonly metrics: Readonly<Record<string, unknown>>;
  }[];
  readonly aggregated: Readonly<Record<string, { readonly value: number; readonly stderr?: number }>>;
};
type Golden = {
  readonly tasks: Readonly<
    Record<string, { readonly rows: Readonly<Record<string, object[]>> } & Record<string, Shot>>
  >;
  readonly functions: {
    readonly rolling: { tokens: number; contextLength: number; windows: [number[], number[]][] }[];
    readonly exactMatch: { answer: string; reference: string; ignore: boolean; match: boolean }[];
    readonly sample: { size: number; count: number; draws: number[][] }[];
    readonly bits: number[];
    readonly capitalize: [string, string][];
    readonly strip: [string, string][];
    readonly splitSpaces: [string, string[]][];
    readonly literals: [string, unknown][];
  };
};
const golden = JSON.parse(readFileSync("test/fixtures/evaluation/harness.json", "utf8")) as Golden;

const cases = Object.keys(golden.tasks).flatMap((name) =>
  ["0shot", "2shot"].flatMap((shots) => (golden.tasks[name]![shots] ? [[name, shots] as const] : [])),
);

describe("a task asks and counts as the harness does", () => {
  test.each(cases)("%s, %s", async (name, shots) => {
    const { rows } = golden.tasks[name]!;
    const expected = golden.tasks[name]![shots] as unknown as Shot;
    const { model } = createFakeModel();
    const { tasks: results } = await evaluate(model, {
      tasks: [name],
      data: memoryData(filesOf(name, rows)),
      fewShot: Number.parseInt(shots, 10),
      samples: true,
      results: givenAnswers(name, expected),
    });
    const { samples, metrics } = results[name]!;
    expect(samples!.map(({ target }) => target)).toEqual(expected.samples.map(({ target }) => target));
    expect(samples!.map((sample) => requestsOf(name, sample))).toEqual(
      expected.samples.map((sample) => sample.arguments),
    );
    for (const [i, sample] of samples!.entries()) expect(sample.metrics).toMatchObject(expected.samples[i]!.metrics);
    for (const [metric, { value, stderr }] of Object.entries(expected.aggregated)) {
      expect(metrics[metric]!.value, metric).toBeCloseTo(value, 12);
      if (stderr !== undefined) expect(metrics[metric]!.stderr, metric).toBeCloseTo(stderr, 12);
    }
  });
});

/** The splits under the names that the task looks for. */
function filesOf(name: string, rows: Readonly<Record<string, object[]>>): Record<string, string> {
  const task = tasks.get(name)!;
  const lines = (split: string): string => rows[split]!.map((row) => JSON.stringify(row)).join("\n");
  const scored = ["test", "validation", "train"].find((split) => split in rows)!;
  const files: Record<string, string> = { [`${task.data.names[0]}.jsonl`]: lines(scored) };
  if (task.examples?.[0]) files[`${task.examples[0].names[0]}.jsonl`] = lines("train");
  return files;
}

/** A store that already knows what the model will say. */
function givenAnswers(name: string, { samples }: Shot): ResultStore {
  const { model } = createFakeModel();
  const answers = new Map<string, StoredResult>();
  for (const sample of samples) {
    for (const [i, [context, continuation]] of sample.arguments.entries()) {
      const response = sample.resps[i];
      if (typeof response === "string") {
        const { until } = tasks.get(name) as GenerateTask;
        answers.set(generationKey(model.tokenizer!.encode(context!), until, 256), { generated: response });
      } else if (typeof response === "number") {
        const [window] = rollingWindows(model.tokenizer!.encode(context!), 65535, 4096);
        answers.set(pairKey(window!), { logprob: response, isGreedy: false });
      } else {
        const [logprob, isGreedy] = response as [number, boolean];
        const pair = encodePair("", model.session, model.tokenizer, { context: context!, continuation: continuation! });
        answers.set(pairKey(pair), { logprob, isGreedy });
      }
    }
  }
  return { get: (key) => answers.get(key) ?? { logprob: -1, isGreedy: false }, set: () => {} };
}

function requestsOf(name: string, { requests }: Sample): unknown[] {
  return requests.map((request) => {
    if ("generated" in request) {
      const { until } = tasks.get(name) as GenerateTask;
      return [request.context, { until, do_sample: false, temperature: 0 }];
    }
    return name === "wikitext" ? [request.continuation] : [request.context, request.continuation];
  });
}

describe("the functions below are the harness's and CPython's", () => {
  const { functions } = golden;

  test("rolling windows", () => {
    for (const { tokens, contextLength, windows } of functions.rolling) {
      const list = Array.from({ length: tokens }, (_, i) => i + 1);
      const ours = rollingWindows(list, 0, contextLength).map(({ context, continuation }) => [context, continuation]);
      expect(ours).toEqual(windows);
    }
  });

  test("exact match", () => {
    const { ignore } = tasks.get("nq_open") as GenerateTask;
    for (const { answer, reference, ignore: ignores, match } of functions.exactMatch) {
      expect(exactMatch(answer, ["nothing", reference], ignores ? ignore : undefined), `${answer} ~ ${reference}`).toBe(
        match,
      );
    }
  });

  test("random numbers and samples", () => {
    const random = createPythonRandom(1234);
    const bits = [32, 32, 32, 32, 32, 1, 7, 31].map((count) => random.bits(count));
    for (let i = 0; i < 1299; i++) random.bits(32);
    expect([...bits, random.bits(32)]).toEqual(functions.bits);
    for (const { size, count, draws } of functions.sample) {
      const random = createPythonRandom(1234);
      expect(draws.map(() => random.sample(size, count))).toEqual(draws);
    }
  });

  test("strings", () => {
    for (const [text, expected] of functions.capitalize) expect(capitalize(text), JSON.stringify(text)).toBe(expected);
    for (const [text, expected] of functions.strip) expect(strip(text), JSON.stringify(text)).toBe(expected);
    for (const [text, expected] of functions.splitSpaces) expect(splitSpaces(text)).toEqual(expected);
  });

  test("literals", () => {
    for (const [text, expected] of functions.literals) expect(parsePythonLiteral(text, "row")).toEqual(expected);
  });
});
