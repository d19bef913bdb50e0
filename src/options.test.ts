import { describe, expect, it } from "vitest";
import { FormatError } from "./errors.ts";
import {
  callback,
  check,
  checkFile,
  choice,
  count,
  derived,
  either,
  flag,
  jsonObject,
  list,
  number,
  object,
  oneOrMore,
  optional,
  section,
  signal,
  text,
  withDefault,
} from "./options.ts";

const schema = jsonObject({
  name: text,
  kind: withDefault(choice("fast", "careful"), "fast"),
  files: withDefault(oneOrMore(text), []),
  size: optional(either(count, jsonObject({ width: count, depth: optional(count) }))),
  sections: withDefault(list(jsonObject({ weight: number({ above: 0, max: 1 }) })), []),
  training: section({ rows: withDefault(count, 1), isLong: withDefault(flag, false) }),
});

describe("options that are checked", () => {
  it("come with what was left out, and leave what was given as it is", () => {
    const given = { name: "a", files: "b", training: { rows: 2 } };
    expect(check("run", schema, given)).toEqual({
      name: "a",
      kind: "fast",
      files: ["b"],
      sections: [],
      training: { rows: 2, isLong: false },
    });
    expect(given).toEqual({ name: "a", files: "b", training: { rows: 2 } });
  });

  it.each([
    [{ nam: "a" }, 'TypeError: run: unknown option "nam". Did you mean "name"?'],
    [
      { name: "a", training: { row: 1 } },
      'TypeError: run: unknown option "training.row". Did you mean "training.rows"?',
    ],
    [{ name: "a", rows: 1 }, 'TypeError: run: unknown option "rows". It belongs in training.'],
    [{ name: "a", weight: 1 }, 'TypeError: run: unknown option "weight". It belongs in sections.'],
    [{ name: "a", training: { kind: 1 } }, 'TypeError: run: unknown option "training.kind". It belongs at the top.'],
    [
      { name: "a", training: { zzz: 1 } },
      'TypeError: run: unknown option "training.zzz". Known in training: rows, isLong.',
    ],
    [
      { name: "a", zzz: 1 },
      'TypeError: run: unknown option "zzz". Known: name, kind, files, size, sections, training.',
    ],
    [{ name: "a", size: { widt: 1 } }, 'TypeError: run: unknown option "size.widt". Did you mean "size.width"?'],
    [{}, "TypeError: run.name: required, but missing."],
    [null, "TypeError: run: expected an object, got null."],
    [[], "TypeError: run: expected an object, got []."],
    [{ name: "a", training: [] }, "TypeError: run.training: expected an object, got []."],
    [{ name: 5 }, "TypeError: run.name: expected a string, got 5."],
    [{ name: "" }, 'RangeError: run.name: expected a string that is not empty, got "".'],
    [{ name: "a", kind: "fats" }, 'RangeError: run.kind: expected one of fast, careful, got "fats".'],
    [
      { name: "a", kind: "carefull" },
      'RangeError: run.kind: expected one of fast, careful, got "carefull". Did you mean "careful"?',
    ],
    [{ name: "a", kind: null }, "TypeError: run.kind: expected one of fast, careful, got null."],
    [{ name: "a", size: 0 }, "RangeError: run.size: expected a whole number of 1 or more, got 0."],
    [{ name: "a", size: "1" }, 'TypeError: run.size: expected a whole number of 1 or more, got "1".'],
    [{ name: "a", size: { depth: 1 } }, "TypeError: run.size.width: required, but missing."],
    [{ name: "a", files: ["b", 1] }, "TypeError: run.files[1]: expected a string, got 1."],
    [
      { name: "a", sections: [{ weight: 1 }, { weight: 2 }] },
      "RangeError: run.sections[1].weight: expected a number above 0, up to 1, got 2.",
    ],
    [
      { name: "a", training: { rows: NaN } },
      "RangeError: run.training.rows: expected a whole number of 1 or more, got NaN.",
    ],
    [{ name: "a", training: { isLong: 1n } }, "TypeError: run.training.isLong: expected true or false, got 1."],
  ])("%o are refused in one line by their path", (options, message) => {
    let error: unknown;
    try {
      check("run", schema, options);
    } catch (caught) {
      error = caught;
    }
    expect(String(error)).toBe(message);
  });

  it("out of a file are refused by its name", () => {
    const refused = (json: unknown) => expect(() => checkFile("run.json", schema, json));
    refused({ name: "a", rows: 1 }).toThrow(new FormatError('run.json: unknown key "rows". It belongs in training.'));
    refused({ name: 1 }).toThrow(new FormatError("run.json: name: expected a string, got 1."));
    refused([]).toThrow(new FormatError("run.json: the file: expected an object, got []."));
  });

  it("may hold what is no JSON, which stays what it is", () => {
    const calls = object({ onProgress: optional(callback<() => void>()), signal: optional(signal) });
    const given = { onProgress: () => {}, signal: new AbortController().signal };
    const checked = check("run", calls, given);
    expect(checked.onProgress).toBe(given.onProgress);
    expect(checked.signal).toBe(given.signal);
    expect(() => check("run", calls, { signal: { aborted: false } })).toThrow(
      new TypeError('run.signal: expected an AbortSignal, got {"aborted":false}.'),
    );
    expect(() => check("run", calls, { onProgress: 1 })).toThrow(
      new TypeError("run.onProgress: expected a function, got 1."),
    );
  });

  it("are held against one another by rules, which name a key", () => {
    const range = derived(jsonObject({ from: count, to: count }), ({ from, to }, refuse) =>
      from > to ? refuse("to", `expected at least from (${from}), got ${to}.`) : to - from,
    );
    expect(check("range", range, { from: 1, to: 3 })).toBe(2);
    expect(() => check("range", range, { from: 3, to: 1 })).toThrow(
      new RangeError("range.to: expected at least from (3), got 1."),
    );
    expect(() => check("run", jsonObject({ range }), { range: { from: 3, to: 1 } })).toThrow(
      new RangeError("run.range.to: expected at least from (3), got 1."),
    );
  });
});
