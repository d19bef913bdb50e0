/** What answers are worth: the harness's metrics of a document, and of all of a task's. */
import { bestF1, exactMatch } from "./answers.ts";
import { type PairRequest, type Question, type Scored } from "./plan.ts";
import { invariant } from "../errors.ts";
import { argmax, length, splitSpaces } from "./python.ts";
import type { ChoiceItem } from "./requests.ts";
import { meanOf, type Metric, perplexityOf, sum } from "./statistics.ts";
import type { Task } from "./task.ts";

/** A document, as the harness logs it. */
export type Sample = {
  readonly id: string;
  /** The index of the right choice, the references, or the text. */
  readonly target: number | string | readonly string[];
  /** What enters the task's metrics; for whole texts the log-likelihood and what it is divided by. */
  readonly metrics: Readonly<Record<string, number | readonly [logprob: number, count: number]>>;
  readonly requests: readonly SampleRequest[];
  /** log P(choice | "Answer:") for each choice. */
  readonly unconditional?: readonly number[];
};

/** What was asked about a document, and the answer; log-likelihoods are in nats. */
export type SampleRequest =
  | { readonly context: string; readonly continuation: string; readonly logprob: number; readonly isGreedy: boolean }
  | { readonly context: string; readonly generated: string };

/** Counts what the model answered to one question. */
export function judge(question: Question): Sample {
  const { item } = question;
  const { id } = item;
  switch (question.kind) {
    case "choice": {
      const { document, requests } = question.item;
      const scores = question.requests.map(scoreOf);
      const unconditional = question.unconditional.map((request) => scoreOf(request).logprob);
      const logprobs = scores.map(({ logprob }) => logprob);
      return {
        id,
        target: document.target ?? document.gold,
        metrics: judgeChoice(question.item, logprobs, unconditional),
        requests: scores.map((score, i) => ({ ...requests[i]!, ...score })),
        ...(unconditional.length > 0 && { unconditional }),
      };
    }
    case "likelihood": {
      const { document, request } = question.item;
      const { logprob, isGreedy } = scoreOf(question.request);
      return {
        id,
        target: document.continuation,
        metrics: { perplexity: logprob, acc: Number(isGreedy) },
        requests: [{ ...request, logprob, isGreedy }],
      };
    }
    case "generate": {
      const { document, task, context } = question.item;
      const { references } = document;
      const { generated } = question.request;
      invariant(generated !== undefined, "a prompt was not answered");
      return {
        id,
        target: references,
        metrics: {
          exact_match: Number(exactMatch(generated, references, task.ignore)),
          f1: bestF1(generated, references),
        },
        requests: [{ context, generated }],
      };
    }
    case "rolling": {
      const { document, task } = question.item;
      const { text, original = text } = document;
      const scores = question.requests.map(scoreOf);
      const logprob = sum(scores.map((score) => score.logprob));
      const bytes = new TextEncoder().encode(original).length;
      return {
        id,
        target: text,
        metrics:
          task.windows === "chunks"
            ? { token_perplexity: [logprob, sum(question.requests.map(({ pair }) => pair.continuation.length))] }
            : {
                word_perplexity: [logprob, splitSpaces(original).length],
                byte_perplexity: [logprob, bytes],
                bits_per_byte: [logprob, bytes],
              },
        requests: [{ context: "", continuation: text, logprob, isGreedy: scores.every((score) => score.isGreedy) }],
      };
    }
  }
}

function scoreOf({ score }: PairRequest): Scored {
  invariant(score !== undefined, "a request was not answered");
  return score;
}

/** acc: by log-likelihood; acc_norm: per character; acc_uncond: over that after "Answer:"; and the paper's choice of them. */
function judgeChoice(
  { document, task }: ChoiceItem,
  logprobs: readonly number[],
  unconditional: readonly number[],
): Sample["metrics"] {
  const isRight = (values: readonly number[]): number => Number(argmax(values) === document.gold);
  const acc_norm = isRight(logprobs.map((logprob, i) => logprob / length(document.choices[i]!)));
  const scores = { acc: isRight(logprobs), acc_norm };
  const isPaperRule = task.paperRule === "unconditional";
  if (unconditional.length === 0) return isPaperRule ? scores : { ...scores, mobilellm_score: acc_norm };
  const acc_uncond = isRight(logprobs.map((logprob, i) => logprob - unconditional[i]!));
  return { ...scores, acc_uncond, mobilellm_score: isPaperRule ? acc_uncond : acc_norm };
}

/** A task's metrics, from those of its documents. */
export function aggregate({ kind }: Task, samples: readonly Sample[]): Record<string, Metric> {
  const names = Object.keys(samples[0]?.metrics ?? {});
  return Object.fromEntries(
    names.map((name): [string, Metric] => {
      const values = samples.map(({ metrics }) => metrics[name]!);
      const numbers = values.filter((value) => typeof value === "number");
      if (numbers.length < values.length)
        return [
          name,
          ofText(
            name,
            values.filter((value) => typeof value === "object"),
          ),
        ];
      return [name, kind === "likelihood" && name === "perplexity" ? perplexityOf(numbers) : meanOf(numbers)];
    }),
  );
}

/** All texts as one. */
function ofText(name: string, values: readonly (readonly [logprob: number, count: number])[]): Metric {
  const nats = -sum(values.map(([logprob]) => logprob)) / sum(values.map(([, count]) => count));
  return { value: name === "bits_per_byte" ? nats / Math.LN2 : Math.exp(nats) };
}
