/**
 * API calling as in the MobileLLM paper's section on it: a conversation of USER, PARSER and AGENT, in which the model writes
 * the parser's call and the agent's answer. EM_intent: the right function; EM_structure: the right function with the right
 * arguments; ROUGE-1 and ROUGE-L (F1) of the agent's answer. The paper's data and its normalisation are unpublished.
 */
import { progressEntries, type ProgressOptions } from "../inference/score.ts";
import * as o from "../options.ts";
import type { Model } from "../inference/model.ts";
import { overlap } from "./answers.ts";
import { parsePythonLiteral } from "./python-literal.ts";
import { strip } from "./python.ts";
import type { Row } from "./row.ts";
import { meanOf, type Metric } from "./statistics.ts";

/** A turn of a conversation; PARSER writes calls, and AGENT tells the user what came of them. */
export type DialogueTurn = { readonly role: "USER" | "PARSER" | "AGENT"; readonly message: string };

/** Reads `{ dialogue: [{ role, message }] }`, or `messages` or `turns` in its place. */
export function readDialogue(row: Row): DialogueTurn[] {
  const field = ["dialogue", "messages", "turns"].find((name) => row.has(name)) ?? "dialogue";
  return row.rows(field).map((turn) => {
    const role = turn.text("role").toUpperCase();
    if (role !== "USER" && role !== "PARSER" && role !== "AGENT") {
      throw new RangeError(`${turn.where}: "role" must be USER, PARSER or AGENT, got ${JSON.stringify(role)}.`);
    }
    return { role, message: turn.text("message", "content") };
  });
}

/** A call; each argument's value is written in one way, whatever its quotes, spaces and case were. */
export type ApiCall = { readonly name: string; readonly arguments: ReadonlyMap<string, string> };

/** Reads `name(key = "value", other = [1, 2])`, also inside `{API: "…"}`; undefined for anything else. */
export function parseApiCall(text: string): ApiCall | undefined {
  const [, wrapped] = /^\{\s*"?API"?\s*:\s*"(.*)"\s*\}$/s.exec(strip(text)) ?? [];
  const call = wrapped === undefined ? strip(text) : wrapped.replaceAll('\\"', '"');
  const [, name, list] = /^([A-Za-z_][\w.]*)\s*\((.*)\)$/s.exec(call) ?? [];
  if (name === undefined || list === undefined) return undefined;
  const found = new Map<string, string>();
  for (const part of splitArguments(list)) {
    const [, key, value] = /^\s*([A-Za-z_]\w*)\s*=\s*(.*?)\s*$/s.exec(part) ?? [];
    if (key === undefined || value === undefined || found.has(key)) return undefined;
    const normal = normalise(value);
    if (normal === undefined) return undefined;
    found.set(key, normal);
  }
  return { name, arguments: found };
}

/** Cuts at the commas that stand in no brackets and no quotes. */
function splitArguments(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let quote = "";
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    const character = text[i]!;
    if (quote !== "") {
      if (character === "\\") i++;
      else if (character === quote) quote = "";
    } else if (character === '"' || character === "'") quote = character;
    else if ("([{".includes(character)) depth++;
    else if (")]}".includes(character)) depth--;
    else if (character === "," && depth === 0) {
      parts.push(text.slice(start, i));
      start = i + 1;
    }
  }
  const last = text.slice(start);
  return strip(last) === "" ? parts : [...parts, last];
}

/** Equal values alike: quotes, spaces at the ends and case do not count. */
function normalise(value: string): string | undefined {
  try {
    return JSON.stringify(parsePythonLiteral(value, "argument"), (_, part: unknown) =>
      typeof part === "string" ? strip(part).toLowerCase() : part,
    );
  } catch {
    return undefined; // no literal, so no call that could be carried out
  }
}

/** Each is 0 or 1: the right function, and the right function with the right arguments. */
export type ApiScores = {
  readonly emIntent: number;
  readonly emStructure: number;
};

/** Compares a written call with the right one; arguments count in any order. @throws {RangeError} if the right one is no call. */
export function compareCalls(written: string, reference: string): ApiScores {
  const ours = parseApiCall(written);
  const right = parseApiCall(reference);
  if (!right) throw new RangeError(`reference: a call such as news(query = "rain") was required, got ${reference}.`);
  if (ours?.name !== right.name) return { emIntent: 0, emStructure: 0 };
  const isSame =
    ours.arguments.size === right.arguments.size &&
    [...right.arguments].every(([key, value]) => ours.arguments.get(key) === value);
  return { emIntent: 1, emStructure: Number(isSame) };
}

/** What the model wrote in all dialogues, and how good it was. */
export type ApiEvaluation = {
  readonly dialogues: number;
  readonly calls: number;
  readonly answers: number;
  readonly metrics: Readonly<Record<"em_intent" | "em_structure" | "rouge1" | "rougeL", Metric>>;
  readonly samples: readonly {
    readonly role: "PARSER" | "AGENT";
    readonly context: string;
    readonly reference: string;
    readonly generated: string;
  }[];
};

/** How dialogues are put to the model. */
export type ApiOptions = ProgressOptions & {
  /** The most tokens of a call or an answer. Default: 128. */
  readonly maxTokens?: number | undefined;
};

type ApiSettings = ProgressOptions & { readonly maxTokens: number };

const apiSchema: o.Schema<ApiOptions, ApiSettings> = o.object<ApiOptions, ApiSettings>({
  ...progressEntries,
  maxTokens: o.withDefault(o.count, 128),
});

/**
 * Has the model write every PARSER and AGENT turn after the true turns before it, `ROLE: message` a line.
 * @example await evaluateApiCalls(model, (await parseRows("dialogues.jsonl", bytes)).map(readDialogue));
 */
export async function evaluateApiCalls(
  model: Model,
  dialogues: readonly (readonly DialogueTurn[])[],
  options: ApiOptions = {},
): Promise<ApiEvaluation> {
  const { maxTokens, onProgress, signal } = o.check("evaluateApiCalls", apiSchema, options);
  const asked = dialogues.flatMap((turns) =>
    turns.flatMap(({ role, message }, i) =>
      role === "USER" ? [] : [{ role, reference: message, context: `${writeTurns(turns.slice(0, i))}${role}:` }],
    ),
  );
  const samples: ApiEvaluation["samples"][number][] = [];
  const intents: number[] = [];
  const structures: number[] = [];
  const rouge1: number[] = [];
  const rougeL: number[] = [];
  for (const [i, { role, reference, context }] of asked.entries()) {
    const { text } = await model.generate(context, { temperature: 0, maxTokens, stop: ["\n"], signal }).result;
    const generated = strip(text);
    samples.push({ role, context, reference, generated });
    if (role === "PARSER") {
      const { emIntent, emStructure } = compareCalls(generated, reference);
      intents.push(emIntent);
      structures.push(emStructure);
    } else {
      rouge1.push(rouge(generated, reference, 1));
      rougeL.push(rouge(generated, reference, "L"));
    }
    onProgress?.({ done: i + 1, total: asked.length });
  }
  return {
    dialogues: dialogues.length,
    calls: intents.length,
    answers: rouge1.length,
    metrics: {
      em_intent: meanOf(intents),
      em_structure: meanOf(structures),
      rouge1: meanOf(rouge1),
      rougeL: meanOf(rougeL),
    },
    samples,
  };
}

function writeTurns(turns: readonly DialogueTurn[]): string {
  return turns.map(({ role, message }) => `${role}: ${message}\n`).join("");
}

/** Computes the ROUGE F1 (Lin 2004), from 0 to 1, over lower-cased words of ASCII letters and digits, as google-research's rouge_score without stemmer. */
export function rouge(answer: string, reference: string, kind: 1 | 2 | "L"): number {
  const ours = rougeWords(answer);
  const right = rougeWords(reference);
  const [a, b] = kind === 2 ? [pairs(ours), pairs(right)] : [ours, right];
  const common = kind === "L" ? longestCommon(a, b) : overlap(a, b);
  if (common === 0) return 0;
  const precision = common / a.length;
  const recall = common / b.length;
  return (2 * precision * recall) / (precision + recall);
}

function rougeWords(text: string): string[] {
  return text.toLowerCase().match(/[a-z0-9]+/g) ?? [];
}

function pairs(words: readonly string[]): string[] {
  return words.slice(1).map((word, i) => `${words[i]!} ${word}`);
}

/** Length of the longest common subsequence. */
function longestCommon(a: readonly string[], b: readonly string[]): number {
  let row = Array.from({ length: b.length + 1 }, () => 0);
  for (const word of a) {
    const next = [0];
    for (const [j, other] of b.entries()) next.push(word === other ? row[j]! + 1 : Math.max(row[j + 1]!, next[j]!));
    row = next;
  }
  return row.at(-1)!;
}
