/** Answers in a file, so that an evaluation goes on after a stop: a line for the model, then one for each answer. */
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { FormatError } from "../errors.ts";
import type { Model } from "../inference/model.ts";
import type { ResultStore, StoredResult } from "./result-store.ts";

const KIND = "mobilellm evaluation answers";

type Header = { readonly kind: string; readonly model: string };
type Line = readonly [key: string, logprob: number, isGreedy: 0 | 1] | readonly [key: string, generated: string];

/** A store whose answers are on disk as soon as they are there. */
export type FileResultStore = ResultStore & { close(): void };

/**
 * Opens a file of answers: reads what is there and appends what comes.
 * @throws {FormatError} for a file of another model or another kind.
 */
export async function openResultStore(path: string, model: Model): Promise<FileResultStore> {
  const name = await identify(model);
  const { answers, wholeBytes } = readAnswers(path, name);
  const file = openSync(path, wholeBytes > 0 ? "r+" : "w");
  let end = wholeBytes; // half a line, after a crash, is written over
  const append = (line: Header | Line): void => {
    end += writeSync(file, `${JSON.stringify(line)}\n`, end);
  };
  if (end === 0) append({ kind: KIND, model: name });
  return {
    get: (key) => answers.get(key),
    set(key, result) {
      answers.set(key, result);
      append("generated" in result ? [key, result.generated] : [key, result.logprob, result.isGreedy ? 1 : 0]);
    },
    close: () => closeSync(file),
  };
}

function readAnswers(path: string, name: string): { answers: Map<string, StoredResult>; wholeBytes: number } {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    return { answers: new Map(), wholeBytes: 0 };
  }
  const whole = text.slice(0, text.lastIndexOf("\n") + 1);
  const answers = new Map<string, StoredResult>();
  for (const [i, line] of whole.split("\n").entries()) {
    if (line === "") continue;
    const parsed = parseLine(line, `${path}, line ${i + 1}`);
    if (i === 0) checkHeader(parsed, name, path);
    else {
      const [key, answer, isGreedy] = parsed as Line;
      answers.set(
        key,
        typeof answer === "string" ? { generated: answer } : { logprob: answer, isGreedy: isGreedy === 1 },
      );
    }
  }
  return { answers, wholeBytes: Buffer.byteLength(whole) };
}

function parseLine(line: string, where: string): unknown {
  try {
    return JSON.parse(line) as unknown;
  } catch (cause) {
    throw new FormatError(`${where}: an answer of an earlier run was required. Name another file to resume from.`, {
      cause,
    });
  }
}

function checkHeader(header: unknown, name: string, path: string): void {
  const { kind, model } = header as Partial<Header>;
  if (kind !== KIND) {
    throw new FormatError(
      `${path}: answers of an earlier run were required, got another kind of file. Name a new one.`,
    );
  }
  if (model === name) return;
  throw new FormatError(`${path}: holds answers of ${String(model)}, this model is ${name}. Name another file.`);
}

/** A model is known by its name and by some logits: other weights under the same name give others. */
async function identify(model: Model): Promise<string> {
  const tokens = Array.from({ length: 8 }, (_, i) => (i * 97) % model.config.vocabSize);
  const logits = await model.logits(tokens);
  const words = new Uint32Array(logits.buffer, logits.byteOffset, logits.length);
  let hash = 0x811c9dc5;
  for (const word of words) hash = Math.imul(hash ^ word, 0x01000193);
  return `${model.name}/${model.dtype}/${(hash >>> 0).toString(16)}`;
}
