/** Text generation: prefill, then one token after the other, as a stream of pieces with a summary at the end. */
import * as o from "../options.ts";
import { type Sampler, samplerEntries, type SamplerOptions, samplerOf, type SamplerSettings } from "./sampler.ts";
import type { Session, Turn } from "./session.ts";
import { createStopFinder } from "./stop-strings.ts";
import { toTokens, type TextCodec } from "./tokens.ts";

/** How a text is made, and when it ends. */
export type GenerateOptions = SamplerOptions & {
  /** The most new tokens. Default: as many as the context has room for; with `contextOverflow: "slide"` no limit. */
  readonly maxTokens?: number | undefined;
  /** Strings that end the text. They are not shown, and may span tokens. */
  readonly stop?: string | readonly string[] | undefined;
  /** Go on after an end-of-text token. Default false. */
  readonly ignoreEos?: boolean | undefined;
  /**
   * When the context is full: `stop` ends the text; `slide` forgets the middle, keeping the first eighth of the context
   * (at most the prompt) and the newest half, and runs what it kept anew. Default `stop`.
   */
  readonly contextOverflow?: "stop" | "slide" | undefined;
  /** Called after each chunk of the prompt that had to be run. */
  readonly onPrefill?: ((progress: { readonly done: number; readonly total: number }) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
};

/** One generated token. */
export type GenerationPiece = {
  /** The text that became certain with this token: "" while a character or a possible stop string is incomplete. */
  readonly text: string;
  readonly token: number;
  /** Natural logarithm of the token's probability under the model, before penalty, temperature and cuts. */
  readonly logprob: number;
};

/** A generation as a whole, once it has ended. */
export type GenerationResult = {
  /** The text of all pieces. */
  readonly text: string;
  /** Every generated token, the one that ended the text included. */
  readonly tokens: readonly number[];
  /**
   * `eos`: an end-of-text token; `stop`: a stop string; `length`: maxTokens; `context`: no room left; `break`: the
   * consumer left its loop.
   */
  readonly finishReason: "stop" | "length" | "eos" | "context" | "break";
  /** The stop string that ended the text. */
  readonly stop?: string;
  readonly usage: {
    readonly promptTokens: number;
    /** Prompt tokens that were still in the cache. */
    readonly cachedTokens: number;
    readonly completionTokens: number;
  };
  readonly timings: {
    /** The time from the first forward pass to the prompt's logits. */
    readonly prefillMs: number;
    /** The time for the tokens after that, without what the consumer took. */
    readonly decodeMs: number;
    readonly prefillTokensPerSecond: number;
    readonly decodeTokensPerSecond: number;
  };
};

/** An async iterable of pieces; nothing runs before the first is asked for. */
export type Generation = AsyncIterableIterator<GenerationPiece, GenerationResult | undefined, undefined> & {
  /** Leaves the generation: what is running ends first, then the session is free. */
  return(): Promise<IteratorResult<GenerationPiece, GenerationResult | undefined>>;
  /**
   * The summary. Reading it runs the generation to its end, whether or not the pieces are consumed. Rejects as the
   * iteration does; a rejection that nobody looks at is no unhandled one.
   */
  readonly result: Promise<GenerationResult>;
};

type GenerateSettings = SamplerSettings &
  Pick<GenerateOptions, "onPrefill" | "signal"> & {
    readonly maxTokens: number;
    readonly stop: readonly string[];
    readonly ignoreEos: boolean;
    readonly contextOverflow: "stop" | "slide";
  };

const generateSchema: o.Schema<GenerateOptions, GenerateSettings> = o.object<GenerateOptions, GenerateSettings>({
  ...samplerEntries,
  maxTokens: o.withDefault(o.countOrInfinity, Infinity),
  stop: o.withDefault(o.oneOrMore(o.text), []),
  ignoreEos: o.withDefault(o.flag, false),
  contextOverflow: o.withDefault(o.choice("stop", "slide"), "stop"),
  onPrefill: o.optional(o.callback()),
  signal: o.optional(o.signal),
});

/**
 * Streams text until end-of-text, a stop string, `maxTokens` new tokens or a full context, one piece a token.
 *
 * Generations on one session take turns: the first to be pulled keeps the runner until it ends. If its consumer pauses
 * for longer than 50 ms and another operation waits, that one goes first, and the text so far is run again afterwards. So
 * a loop's body may call the same model.
 * @example for await (const piece of generate(session, tokenizer, "Once upon a time", { maxTokens: 64 })) show(piece.text);
 * @example const { text, finishReason } = await generate(session, tokenizer, "Once upon a time").result;
 * @throws {RangeError} if the prompt is empty or leaves no room in the model's context, or an option is out of range.
 * @throws {TypeError} for an unknown option, and for a string without a tokenizer.
 */
export function generate(
  session: Session,
  tokenizer: TextCodec | undefined,
  prompt: string | ArrayLike<number>,
  options: GenerateOptions = {},
): Generation {
  const plan = planGeneration(session, tokenizer, prompt, options);
  let settle: { resolve: (result: GenerationResult) => void; reject: (reason: unknown) => void };
  const result = new Promise<GenerationResult>((resolve, reject) => {
    settle = { resolve, reject };
  });
  result.catch(() => {});
  const progress = emptyProgress();
  const inner = run(session, plan, progress);
  // Steps that `result` asked for before the consumer did.
  const ahead: Promise<IteratorResult<GenerationPiece, GenerationResult | undefined>>[] = [];
  let isDraining = false;

  async function step(
    next: Promise<IteratorResult<GenerationPiece, GenerationResult>>,
  ): Promise<IteratorResult<GenerationPiece, GenerationResult | undefined>> {
    try {
      const item = await next;
      if (item.done && item.value !== undefined) settle.resolve(item.value);
      return item;
    } catch (error) {
      settle.reject(error);
      throw error;
    }
  }

  async function drain(): Promise<void> {
    for (;;) {
      const next = step(inner.next());
      ahead.push(next);
      if ((await next).done) return;
    }
  }

  return {
    next: () => ahead.shift() ?? step(inner.next()),
    return: async () => {
      ahead.length = 0;
      await inner.return(summarize(plan, progress, "break"));
      // Made anew: a step that was running may have added to it.
      const value = summarize(plan, progress, "break");
      settle.resolve(value);
      return { done: true, value };
    },
    get result() {
      if (!isDraining) {
        isDraining = true;
        drain().catch(() => {}); // the promise itself tells
      }
      return result;
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

export type Plan = {
  readonly promptTokens: readonly number[];
  readonly sampler: Sampler;
  readonly decoder: ReturnType<TextCodec["createDecoder"]>;
  readonly stops: readonly string[];
  readonly eosTokens: ReadonlySet<number>;
  readonly maxTokens: number;
  readonly slides: boolean;
  readonly onPrefill: GenerateOptions["onPrefill"];
  readonly signal: AbortSignal | undefined;
};

export type Progress = { text: string; tokens: number[]; cachedTokens: number; prefillMs: number; decodeMs: number };

export function emptyProgress(): Progress {
  return { text: "", tokens: [], cachedTokens: 0, prefillMs: 0, decodeMs: 0 };
}

export function planGeneration(
  session: Session,
  tokenizer: TextCodec | undefined,
  prompt: string | ArrayLike<number>,
  options: GenerateOptions,
): Plan {
  const settings = o.check("generate", generateSchema, options);
  const { maxTokens, stop: stops, ignoreEos, contextOverflow, onPrefill, signal } = settings;
  if (stops.length > 0 && !tokenizer) {
    throw new TypeError("stop: this model came without a tokenizer, so no text can be compared. Use maxTokens.");
  }
  const promptTokens = toTokens("generate", prompt, tokenizer, session.vocabSize);
  if (promptTokens.length === 0) {
    throw new RangeError("generate: the prompt must have at least one token, got none. Start with the bos token.");
  }
  if (promptTokens.length >= session.contextLength) {
    throw new RangeError(
      `generate: the prompt must leave room in the context of ${session.contextLength} tokens, got ${promptTokens.length} tokens. Shorten it, or load the model with a longer contextLength.`,
    );
  }
  return {
    promptTokens,
    sampler: samplerOf(settings),
    decoder: tokenizer?.createDecoder(promptTokens) ?? { push: () => "", end: () => "" },
    stops,
    eosTokens: new Set(ignoreEos ? [] : [...session.eosTokens, ...(tokenizer?.eosTokens ?? [])]),
    maxTokens,
    slides: contextOverflow === "slide",
    onPrefill,
    signal,
  };
}

async function* run(
  session: Session,
  plan: Plan,
  progress: Progress,
): AsyncGenerator<GenerationPiece, GenerationResult, undefined> {
  const { promptTokens, signal } = plan;
  const { contextLength } = session;
  const writer = createWriter(plan, progress, contextLength);
  let context = [...promptTokens]; // what the model sees
  const turn: Turn = await session.acquire(signal);
  try {
    let startedAt = performance.now();
    const fed = await turn.feed(context, { onPrefill: plan.onPrefill, signal });
    let { logits } = fed;
    progress.cachedTokens = fed.cachedTokens;
    progress.prefillMs = performance.now() - startedAt;

    for (;;) {
      startedAt = performance.now();
      const { piece, finishReason, stop } = writer.next(logits);
      context.push(piece.token);
      progress.decodeMs += performance.now() - startedAt;

      if (finishReason) turn.release();
      else turn.pause();
      yield piece;
      if (finishReason) return summarize(plan, progress, finishReason, stop);
      await turn.resume(signal);

      startedAt = performance.now();
      if (context.length >= contextLength) context = slide(context, promptTokens.length, contextLength);
      logits = (await turn.feed(context, { signal })).logits;
      progress.decodeMs += performance.now() - startedAt;
    }
  } finally {
    turn.release();
  }
}

export type Written = {
  readonly piece: GenerationPiece;
  /** Undefined while the text goes on. */
  readonly finishReason: GenerationResult["finishReason"] | undefined;
  /** The stop string that ended the text. */
  readonly stop: string | undefined;
};

/** One text on its way: from the logits after its last token to the next token, the text that it makes certain, and whether that was all. */
export function createWriter(
  { promptTokens, sampler, decoder, stops, eosTokens, maxTokens, slides }: Plan,
  progress: Progress,
  contextLength: number,
): { next(logits: Float32Array): Written } {
  const finder = createStopFinder(stops);
  const history = [...promptTokens]; // the whole text, for the repetition penalty
  return {
    next(logits) {
      const { token, logprob } = sampler.sample(logits, history);
      history.push(token);
      progress.tokens.push(token);

      let finishReason: GenerationResult["finishReason"] | undefined;
      if (eosTokens.has(token)) finishReason = "eos";
      else if (progress.tokens.length >= maxTokens) finishReason = "length";
      else if (history.length >= contextLength && !slides) finishReason = "context";

      let text = finishReason === "eos" ? "" : finder.push(decoder.push(token));
      if (finishReason && finder.found === undefined) text += finder.push(decoder.end()) + finder.end();
      if (finder.found !== undefined) finishReason = "stop";
      progress.text += text;
      return { piece: { text, token, logprob }, finishReason, stop: finder.found };
    },
  };
}

/** Keeps the start, which attention leans on (Xiao et al. 2023, arXiv:2309.17453), and the newest half. */
function slide(context: readonly number[], promptLength: number, contextLength: number): number[] {
  const first = Math.min(promptLength, Math.floor(contextLength / 8));
  const newest = Math.max(1, Math.floor(contextLength / 2));
  return [...context.slice(0, first), ...context.slice(-newest)];
}

export function summarize(
  plan: Plan,
  progress: Progress,
  finishReason: GenerationResult["finishReason"],
  stop?: string,
): GenerationResult {
  const { text, tokens, cachedTokens, prefillMs, decodeMs } = progress;
  const promptTokens = plan.promptTokens.length;
  const ran = tokens.length === 0 ? 0 : promptTokens - cachedTokens;
  return {
    text,
    tokens: [...tokens],
    finishReason,
    ...(stop === undefined ? {} : { stop }),
    usage: { promptTokens, cachedTokens, completionTokens: tokens.length },
    timings: {
      prefillMs,
      decodeMs,
      prefillTokensPerSecond: perSecond(ran, prefillMs),
      // The first token comes out of the prefill.
      decodeTokensPerSecond: perSecond(Math.max(0, tokens.length - 1), decodeMs),
    },
  };
}

function perSecond(count: number, elapsedMs: number): number {
  return count === 0 || elapsedMs === 0 ? 0 : (1000 * count) / elapsedMs;
}
