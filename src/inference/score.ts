/**
 * Log-likelihoods of given text, as EleutherAI's lm-evaluation-harness (0.4) defines them, so that results compare.
 */
import * as o from "../options.ts";
import { planBranches } from "./branches.ts";
import { logSumExp } from "./log-softmax.ts";
import type { Session } from "./session.ts";
import { checkTokens, describe, toTokens, type TextCodec } from "./tokens.ts";

/** A text and what may follow it, as strings or token ids. */
export type ScoreRequest = {
  /** The text before; where it is empty the bos token, else an eos token, stands before the continuation. */
  readonly context: string | ArrayLike<number>;
  /** What is scored: at least one token, at most the model's context. */
  readonly continuation: string | ArrayLike<number>;
};

/** How likely a continuation is. */
export type Score = {
  /** Natural logarithm of the continuation's probability after the context. */
  readonly logprob: number;
  /** Whether each token of the continuation is the likeliest one where it stands. */
  readonly isGreedy: boolean;
  /** Tokens of the continuation. */
  readonly tokenCount: number;
};

/** What long work reports, and how it is stopped. */
export type ProgressOptions = {
  readonly onProgress?: ((progress: { readonly done: number; readonly total: number }) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
};

export const progressEntries: o.Entries<ProgressOptions> = {
  onProgress: o.optional(o.callback()),
  signal: o.optional(o.signal),
};

const scoreSchema: o.Schema<ProgressOptions> = o.object(progressEntries);

/** A request as token ids: what the model reads and what it is asked about. */
export type EncodedPair = { readonly context: readonly number[]; readonly continuation: readonly number[] };

/**
 * Scores each continuation after its context; a context that several requests share runs once. Too long a context loses
 * its start.
 * @throws {RangeError} if a continuation has no tokens or is longer than the model's context.
 */
export async function score(
  session: Session,
  tokenizer: TextCodec | undefined,
  requests: readonly ScoreRequest[],
  options: ProgressOptions = {},
): Promise<Score[]> {
  const { onProgress, signal } = o.check("score", scoreSchema, options);
  const pairs = requests.map((request, i) => encodePair(`score: requests[${i}]`, session, tokenizer, request));
  const scores: Score[] = Array.from({ length: requests.length });
  let done = 0;
  for await (const { index, score } of scorePairs(session, pairs, signal)) {
    scores[index] = score;
    onProgress?.({ done: ++done, total: requests.length });
  }
  return scores;
}

/**
 * Scores in the order of the tokens, so that texts which start alike follow each other: they run together, as branches of
 * what they share. Each score comes with the index of its pair as soon as it is known.
 */
export async function* scorePairs(
  session: Session,
  pairs: readonly EncodedPair[],
  signal?: AbortSignal,
): AsyncGenerator<{ readonly index: number; readonly score: Score }> {
  const ordered = [...pairs.entries()].sort(([, a], [, b]) => compareTokens(a, b));
  const plan = planBranches(ordered.length, (text) => {
    const [, { context, continuation }] = ordered[text]!;
    return { tokens: [...context, ...continuation.slice(0, -1)], from: context.length - 1, targets: continuation };
  });
  let sum = { logprob: 0, isGreedy: true, tokenCount: 0 };
  while (true) {
    // A turn for each: a long evaluation lets others in between.
    const turn = await session.acquire(signal);
    const asked = await turn.ask(plan, signal).finally(() => turn.release());
    if (!asked) return;
    for (const [i, text] of asked.branches.texts.entries()) {
      const [logprob = NaN, isLikeliest] = asked.answers.subarray(2 * i, 2 * i + 2);
      if (Number.isNaN(logprob)) {
        throw new RangeError("score: the logits hold NaN or infinity. The weights are damaged or a sum overflowed.");
      }
      sum = {
        logprob: sum.logprob + logprob,
        isGreedy: sum.isGreedy && isLikeliest === 1,
        tokenCount: sum.tokenCount + 1,
      };
      const [index, { continuation }] = ordered[text]!;
      if (sum.tokenCount < continuation.length) continue;
      yield { index, score: sum };
      signal?.throwIfAborted();
      sum = { logprob: 0, isGreedy: true, tokenCount: 0 };
    }
  }
}

function compareTokens(a: EncodedPair, b: EncodedPair): number {
  return compareLists(a.context, b.context) || compareLists(a.continuation, b.continuation);
}

function compareLists(a: readonly number[], b: readonly number[]): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}

/** Python's str.isspace for the characters of the basic plane, which is what the harness's rstrip goes by. */
// oxlint-disable-next-line no-control-regex
const trailingSpace = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+$/;

/**
 * Encodes a request as the harness's `_encode_pair` does, empty contexts and truncation on the left included.
 * @param contextLength tokens of a window: at most the session's, which is the default.
 */
export function encodePair(
  where: string,
  session: Session,
  tokenizer: TextCodec | undefined,
  request: ScoreRequest,
  contextLength: number = session.contextLength,
): EncodedPair {
  if (typeof request !== "object" || request === null) {
    throw new TypeError(`${where}: expected { context, continuation }, got ${describe(request)}.`);
  }
  const { vocabSize } = session;
  let context: number[];
  let continuation: number[];
  if (typeof request.context === "string" && typeof request.continuation === "string" && request.context !== "") {
    // Spaces at the border belong to the word after them; the continuation is what the context leaves of the whole.
    const text = request.context.replace(trailingSpace, "");
    const spaces = request.context.slice(text.length);
    context = toTokens(`${where}.context`, text, tokenizer, vocabSize);
    const whole = toTokens(where, text + spaces + request.continuation, tokenizer, vocabSize);
    continuation = whole.slice(context.length);
  } else {
    const isEmpty = request.context === "";
    context = isEmpty ? [] : toTokens(`${where}.context`, request.context, tokenizer, vocabSize);
    continuation = toTokens(`${where}.continuation`, request.continuation, tokenizer, vocabSize, { addBos: false });
  }
  if (context.length === 0) {
    const prefix = prefixToken(session, tokenizer);
    if (prefix === undefined) {
      throw new RangeError(`${where}.context: must not be empty, as the model has no bos or eos token to stand in.`);
    }
    context = continuation[0] === prefix ? continuation.splice(0, 1) : [prefix];
  }
  if (continuation.length < 1 || continuation.length > contextLength) {
    throw new RangeError(
      `${where}.continuation: expected 1 to ${contextLength} tokens (the context), got ${continuation.length}.`,
    );
  }
  // The last token is predicted only, so one more than the context fits.
  const kept = contextLength + 1 - continuation.length;
  return { context: context.slice(-kept), continuation };
}

/** Gives the token that stands before a text without context: the bos token, else an eos token. */
export function prefixToken(session: Session, tokenizer: TextCodec | undefined): number | undefined {
  return tokenizer?.bosToken ?? session.bosToken ?? tokenizer?.eosTokens[0] ?? session.eosTokens[0];
}

/** Computes the logits after each token: (T, V). @throws {RangeError} for more tokens than the context holds. */
export async function logits(session: Session, tokens: ArrayLike<number>, signal?: AbortSignal): Promise<Float32Array> {
  const { vocabSize, contextLength } = session;
  const checked = checkTokens("logits", tokens, vocabSize);
  if (checked.length > contextLength) {
    throw new RangeError(`logits: expected at most ${contextLength} tokens (the context), got ${checked.length}.`);
  }
  const result = new Float32Array(checked.length * vocabSize);
  if (checked.length === 0) return result;
  const turn = await session.acquire(signal);
  try {
    await turn.run(checked, { from: 0, signal, onRows: (rows, position) => result.set(rows, position * vocabSize) });
  } finally {
    turn.release();
  }
  return result;
}

/** How a long text is cut into windows. */
export type PerplexityOptions = ProgressOptions & {
  /** Tokens that the model sees at once. Default: the model's context. */
  readonly window?: number | undefined;
  /** Tokens from one window's start to the next one's, up to `window`, the default: then no token is seen twice. */
  readonly stride?: number | undefined;
};

function perplexitySchema(contextLength: number): o.Schema<PerplexityOptions, ProgressOptions & Windows> {
  const size = o.number({ isWhole: true, min: 1, max: contextLength });
  const given = o.object<PerplexityOptions>({ ...progressEntries, window: o.optional(size), stride: o.optional(size) });
  return o.derived(given, ({ window = contextLength, stride = window, ...rest }, refuse) => {
    if (stride > window) refuse("stride", `expected a whole number from 1 to ${window}, got ${stride}.`);
    return { ...rest, window, stride };
  });
}

type Windows = { readonly window: number; readonly stride: number };

/** How well a text is predicted. */
export type Perplexity = {
  /** Sum of the negative log-likelihoods, in nats. */
  readonly nll: number;
  /** Tokens predicted: all but the first. */
  readonly tokens: number;
  /** exp(nll / tokens). */
  readonly perplexity: number;
};

/**
 * Measures the token perplexity of a long text. Window k reads `tokens[k·stride] …` and predicts the `window` tokens after that one, of
 * which those count that no earlier window predicted. The last window may be shorter.
 */
export async function perplexity(
  session: Session,
  tokens: ArrayLike<number>,
  options: PerplexityOptions = {},
): Promise<Perplexity> {
  const { vocabSize, contextLength } = session;
  const { window, stride, onProgress, signal } = o.check("perplexity", perplexitySchema(contextLength), options);
  const checked = checkTokens("perplexity", tokens, vocabSize);
  const total = checked.length - 1;
  if (total < 1) throw new RangeError(`perplexity: expected at least 2 tokens, got ${checked.length}.`);

  let nll = 0;
  let done = 0;
  for (let start = 0; done < total; start += stride) {
    const end = Math.min(start + window, total);
    const turn = await session.acquire(signal);
    try {
      await turn.run(checked.slice(start, end), {
        from: done - start,
        signal,
        onRows: (rows, position) => {
          for (let row = 0; row * vocabSize < rows.length; row++) {
            const token = checked[start + position + row + 1]!;
            nll += logSumExp(rows, row * vocabSize, vocabSize) - rows[row * vocabSize + token]!;
          }
        },
      });
    } finally {
      turn.release();
    }
    done = end;
    onProgress?.({ done, total });
  }
  return { nll, tokens: total, perplexity: Math.exp(nll / total) };
}
