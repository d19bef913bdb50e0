import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { createFakeModel } from "../../test/support/fake-model.ts";
import { compareCalls, evaluateApiCalls, parseApiCall, readDialogue, rouge } from "./api-calling.ts";
import { parseRows } from "./data.ts";

describe("a call", () => {
  test("is read with its arguments, in a wrapper too", () => {
    expect(parseApiCall('news(query = "rain, snow", tags=["a", "b"], limit=None)')).toEqual({
      name: "news",
      arguments: new Map([
        ["query", '"rain, snow"'],
        ["tags", '["a","b"]'],
        ["limit", "null"],
      ]),
    });
    expect(parseApiCall('{API: "alarm(time=\\"7:30 am\\")"}')).toEqual({
      name: "alarm",
      arguments: new Map([["time", '"7:30 am"']]),
    });
    expect(parseApiCall("stop()")).toEqual({ name: "stop", arguments: new Map() });
    for (const text of ["", "I can't.", "news(query)", "news(query = rain)", "news(a=1, a=2)", "news(a='x'"]) {
      expect(parseApiCall(text), text).toBeUndefined();
    }
  });

  test.each([
    ['news(a = "X ", b = 1)', 'news(b=1,a="x")', 1, 1],
    ['news(a = "y")', 'news(a = "x")', 1, 0],
    ["news()", 'news(a = "x")', 1, 0],
    ['news(a="x", b=1)', 'news(a = "x")', 1, 0],
    ['sports(a = "x")', 'news(a = "x")', 0, 0],
    ["no call", 'news(a = "x")', 0, 0],
  ])("%s for %s", (written, reference, emIntent, emStructure) => {
    expect(compareCalls(written, reference)).toEqual({ emIntent, emStructure });
  });
});

test("ROUGE is rouge_score's", () => {
  const rows = JSON.parse(readFileSync("test/fixtures/evaluation/rouge.json", "utf8")) as [
    string,
    string,
    ...number[],
  ][];
  for (const [answer, reference, one, two, longest] of rows) {
    expect(rouge(answer, reference, 1)).toBeCloseTo(one!, 12);
    expect(rouge(answer, reference, 2)).toBeCloseTo(two!, 12);
    expect(rouge(answer, reference, "L")).toBeCloseTo(longest!, 12);
  }
});

test("each call and each answer is written after the true turns before it", async () => {
  const dialogue = [
    { role: "USER", message: "Wake me at 7." },
    { role: "PARSER", message: 'alarm(time = "7:00")' },
    { role: "AGENT", message: "It is set." },
  ];
  const rows = await parseRows("d.jsonl", Buffer.from(JSON.stringify({ dialogue })));
  const { model } = createFakeModel({ vocabSize: 128, contextLength: 300 });
  const result = await evaluateApiCalls(model, rows.map(readDialogue), { maxTokens: 4 });
  expect(result).toMatchObject({ dialogues: 1, calls: 1, answers: 1 });
  expect(result.samples.map(({ role, context, reference }) => [role, context, reference])).toEqual([
    ["PARSER", "USER: Wake me at 7.\nPARSER:", 'alarm(time = "7:00")'],
    ["AGENT", 'USER: Wake me at 7.\nPARSER: alarm(time = "7:00")\nAGENT:', "It is set."],
  ]);
  expect(Object.keys(result.metrics)).toEqual(["em_intent", "em_structure", "rouge1", "rougeL"]);
  expect(result.metrics.em_intent.value).toBe(0);
  const bad = await parseRows("d.jsonl", Buffer.from('{"dialogue":[{"role":"robot","message":""}]}'));
  expect(() => readDialogue(bad[0]!)).toThrowErrorMatchingInlineSnapshot(
    `[RangeError: d.jsonl, line 1, dialogue[0]: "role" must be USER, PARSER or AGENT, got "ROBOT".]`,
  );
});
