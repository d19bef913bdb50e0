/**
 * Several texts written side by side: one replay makes the next token of each, or runs a piece of a prompt. Each text lies in cache rows
 * of its own, so that it comes out bit for bit as it would alone.
 */
import { batchOf, type TextRows } from "./batch.ts";
import {
  createWriter,
  emptyProgress,
  type GenerateOptions,
  type GenerationPiece,
  type GenerationResult,
  type Plan,
  planGeneration,
  type Progress,
  summarize,
} from "./generate.ts";
import type { Session, Turn } from "./session.ts";
import type { TextCodec } from "./tokens.ts";

/** One generated token of one of the texts. */
export type BatchPiece = GenerationPiece & {
  /** Which of the prompts it continues, from 0. */
  readonly index: number;
};

/** An async iterable of the pieces of all texts, in the order in which they are made. */
export type BatchGeneration = AsyncIterableIterator<BatchPiece, GenerationResult[], undefined> & {
  /** The summaries, in the order of the prompts. Reading it runs the generation to its end. */
  readonly results: Promise<GenerationResult[]>;
};

type Writing = {
  readonly index: number;
  readonly plan: Plan;
  readonly progress: Progress;
  readonly writer: ReturnType<typeof createWriter>;
  /** The text so far, and how much of it lies in the cache. */
  readonly context: number[];
  cached: number;
  /** First of its cache rows; undefined while it waits for room. */
  firstRow: number | undefined;
  readonly rowCount: number;
  result: GenerationResult | undefined;
};

/**
 * Continues every prompt with the same options, as `generate` would continue it alone: the same seed for each. As many run at once as the
 * cache has rows for (`sequences` of `loadModel`); the others wait.
 * @example for await (const { index, text } of generateBatch(session, tokenizer, ["Once", "Twice"], { maxTokens: 64 })) show(index, text);
 * @throws {RangeError} as `generate` does, for the first prompt that is off; {TypeError} for `contextOverflow: "slide"`.
 */
export function generateBatch(
  session: Session,
  tokenizer: TextCodec | undefined,
  prompts: readonly (string | ArrayLike<number>)[],
  options: GenerateOptions = {},
): BatchGeneration {
  if (options.contextOverflow === "slide") {
    throw new TypeError('generate: contextOverflow: "slide" is for one prompt, got several. Generate them one by one.');
  }
  const writings = prompts.map((prompt, index): Writing => {
    const plan = planGeneration(session, tokenizer, prompt, options);
    const progress = emptyProgress();
    return {
      index,
      plan,
      progress,
      writer: createWriter(plan, progress, session.contextLength),
      context: [...plan.promptTokens],
      cached: 0,
      firstRow: undefined,
      rowCount: Math.min(session.contextLength, plan.promptTokens.length + plan.maxTokens),
      result: undefined,
    };
  });
  const inner = run(session, writings, options.signal);
  let results: Promise<GenerationResult[]> | undefined;
  const drain = async (): Promise<GenerationResult[]> => {
    let item = await inner.next();
    while (!item.done) item = await inner.next();
    return item.value;
  };
  return {
    next: () => inner.next(),
    return: (value) => inner.return(value ?? []),
    get results() {
      results ??= drain();
      results.catch(() => {}); // a rejection that nobody looks at is no unhandled one
      return results;
    },
    [Symbol.asyncIterator]() {
      return this;
    },
  };
}

async function* run(
  session: Session,
  writings: readonly Writing[],
  signal: AbortSignal | undefined,
): AsyncGenerator<BatchPiece, GenerationResult[], undefined> {
  const turn = await session.acquire(signal);
  try {
    while (writings.some(({ result }) => !result)) {
      admit(writings, session.cacheRows);
      const startedAt = performance.now();
      const pieces = await step(session, turn, writings, signal);
      const elapsed = performance.now() - startedAt;
      for (const writing of writings) if (isRunning(writing)) count(writing, elapsed);
      if (pieces.length === 0) continue;
      turn.pause();
      yield* pieces;
      if (await turn.resume(signal)) continue;
      // Another used the cache meanwhile: what was in it is run again.
      for (const writing of writings) writing.cached = 0;
    }
    return writings.map(({ result }) => result!);
  } finally {
    turn.release();
  }
}

function isRunning({ firstRow, result }: Writing): boolean {
  return firstRow !== undefined && !result;
}

function count({ progress }: Writing, elapsedMs: number): void {
  if (progress.tokens.length === 0) progress.prefillMs += elapsedMs;
  else progress.decodeMs += elapsedMs;
}

/** Gives waiting texts their cache rows, first come, first served, as long as there is room between those that run. */
function admit(writings: readonly Writing[], cacheRows: number): void {
  for (const writing of writings) {
    if (writing.firstRow !== undefined) continue;
    const taken = writings.filter(isRunning).toSorted((a, b) => a.firstRow! - b.firstRow!);
    let start = 0;
    for (const { firstRow, rowCount } of taken) {
      if (firstRow! - start >= writing.rowCount) break;
      start = firstRow! + rowCount;
    }
    if (start + writing.rowCount > cacheRows) return;
    writing.firstRow = start;
  }
}

/** One replay: the last token of each text whose prompt is done, then pieces of prompts, as far as a replay takes them. */
async function step(
  session: Session,
  turn: Turn,
  writings: readonly Writing[],
  signal: AbortSignal | undefined,
): Promise<BatchPiece[]> {
  let room = session.maxTokens;
  let questions = session.maxOutputs;
  const parts: (TextRows & { readonly writing: Writing })[] = [];
  const left = ({ context, cached }: Writing): number => context.length - cached;
  for (const writing of writings.filter(isRunning).toSorted((a, b) => left(a) - left(b))) {
    const length = Math.min(left(writing), room);
    const isDue = length === left(writing);
    if (length === 0 || (isDue && questions === 0)) continue;
    const { cached: position, firstRow, context } = writing;
    const tokens = context.slice(position, position + length);
    parts.push({ writing, tokens, position, firstRow: firstRow!, outputs: isDue ? 1 : 0 });
    room -= length;
    questions -= isDue ? 1 : 0;
  }
  const logits = await turn.forward(batchOf(parts), signal);
  const pieces: BatchPiece[] = [];
  for (const { writing, tokens, outputs } of parts) {
    writing.cached += tokens.length;
    if (outputs === 0) continue;
    const row = pieces.length * session.vocabSize;
    const { piece, finishReason, stop } = writing.writer.next(logits.subarray(row, row + session.vocabSize));
    writing.context.push(piece.token);
    pieces.push({ ...piece, index: writing.index });
    if (finishReason) writing.result = summarize(writing.plan, writing.progress, finishReason, stop);
  }
  return pieces;
}
