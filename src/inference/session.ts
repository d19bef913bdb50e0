/**
 * A session owns a runner's key/value cache. It remembers which tokens the cache holds, so that text which starts like
 * the text before it is not run again, and it lets one operation at the runner at a time.
 */
import { FormatError } from "../errors.ts";
import * as o from "../options.ts";
import { PLACE_WORDS, placesOf } from "../tensor/places.ts";
import { type Batch, batchOf } from "./batch.ts";
import type { Branches, BranchPlan } from "./branches.ts";
import { createLock } from "./lock.ts";
import type { Runner } from "./runner.ts";
import { packSession, unpackSession } from "./saved-session.ts";
import { checkTokens, commonPrefix } from "./tokens.ts";

export type SessionOptions = {
  /** Names the model and its numbers' layout; a saved session goes back only into a model with the same one and the same weights. */
  readonly fingerprint: string;
  /** Stands before a text that has no context; the tokenizer's goes first. */
  readonly bosToken?: number | undefined;
  /** Tokens that end a text, besides the tokenizer's. */
  readonly eosTokens?: readonly number[] | undefined;
};

export type FeedOptions = {
  /** Called after each chunk of the tokens that had to be run. */
  readonly onPrefill?: ((progress: { readonly done: number; readonly total: number }) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
};

const sessionSchema: o.Schema<SessionOptions> = o.object({
  fingerprint: o.text,
  bosToken: o.optional(o.wholeOrZero),
  eosTokens: o.optional(o.list(o.wholeOrZero)),
});
const feedSchema: o.Schema<FeedOptions> = o.object({
  onPrefill: o.optional(o.callback()),
  signal: o.optional(o.signal),
});

export type Fed = {
  /** The logits after the last token: (V). */
  readonly logits: Float32Array;
  /** Tokens that were taken from the cache. */
  readonly cachedTokens: number;
};

export type RunOptions = FeedOptions & {
  /** The first position whose logits are wanted. Default: the last. */
  readonly from?: number | undefined;
  /** Gets the logits in order: rows (n, V), the first at `position`. */
  readonly onRows: (rows: Float32Array, position: number) => void;
};

/** The right to use the runner. Whoever holds it must release it. */
export type Turn = {
  feed(tokens: readonly number[], options?: FeedOptions): Promise<Fed>;
  /** Feeds `tokens` and hands the logits of many positions over; resolves to the tokens taken from the cache. */
  run(tokens: readonly number[], options: RunOptions): Promise<number>;
  /**
   * Runs the next rows of `plan` and resolves to them and their answers (runner.ts, `score`); undefined when it has no
   * more. Others may have their turn in between.
   */
  ask(plan: BranchPlan, signal?: AbortSignal): Promise<{ branches: Branches; answers: Float32Array } | undefined>;
  /** Runs rows of texts that the caller lays into the cache himself, from row 0 on; what the session held is forgotten. */
  forward(batch: Batch, signal?: AbortSignal): Promise<Float32Array>;
  /** The holder is waiting for its caller: after `patienceMs` without `resume` the next in line may go first. */
  pause(): void;
  /** Takes the turn back, waiting in line if it was given away; true if it was not, so that the cache is as it was left. */
  resume(signal?: AbortSignal): Promise<boolean>;
  release(): void;
};

export type Session = {
  readonly vocabSize: number;
  readonly contextLength: number;
  /** Rows of the cache and of one replay, for all texts that run together. */
  readonly cacheRows: number;
  readonly maxTokens: number;
  readonly maxOutputs: number;
  readonly bosToken: number | undefined;
  readonly eosTokens: readonly number[];
  /** The tokens whose keys and values the cache holds. */
  readonly tokens: readonly number[];
  /** Waits in line for the runner, first come, first served. */
  readonly acquire: (signal?: AbortSignal) => Promise<Turn>;
  /**
   * Makes the cache hold `tokens` and resolves to the logits after the last one. What the cache shares with them from
   * the start on is kept; the last token always runs. After an abort or an error the session can be used as before.
   */
  feed(tokens: ArrayLike<number>, options?: FeedOptions): Promise<Fed>;
  /** The cache and its tokens as bytes that describe themselves. */
  save(): Promise<Uint8Array>;
  /** Puts back what `save` gave. @throws {FormatError} for damaged bytes and those of another model. */
  restore(bytes: Uint8Array): Promise<void>;
};

/** Longer than a frame or a write to a socket takes, shorter than a person notices. */
const patienceMs = 50;

export function createSession(runner: Runner, options: SessionOptions): Session {
  const { fingerprint, bosToken, eosTokens = [] } = o.check("session", sessionSchema, options);
  const { vocabSize, contextLength, cacheRows, maxTokens, maxOutputs } = runner;
  const cache = createCache(runner);
  const nameOfWeights = async (): Promise<string> => `${fingerprint}, weights ${await runner.digest()}`;

  const { acquire, withTurn } = createTurns(cache);

  return {
    vocabSize,
    contextLength,
    cacheRows,
    maxTokens,
    maxOutputs,
    bosToken,
    eosTokens,
    get tokens() {
      return cache.tokens().slice();
    },
    acquire,
    feed: async (tokens, options = {}) => {
      o.check("feed", feedSchema, options);
      const checked = checkTokens("feed", tokens, vocabSize);
      return withTurn(options.signal, (turn) => turn.feed(checked, options));
    },
    save: () =>
      withTurn(undefined, async () => {
        const held = cache.tokens();
        const rows = held.length === 0 ? new Uint8Array(0) : await runner.readCache(held.length);
        return packSession(await nameOfWeights(), held, rows);
      }),
    restore: async (bytes) => {
      const saved = unpackSession(bytes, await nameOfWeights());
      if (saved.tokens.length > contextLength) {
        throw new FormatError(
          `saved session: holds ${saved.tokens.length} tokens, the context takes ${contextLength}. Load the model with a longer contextLength.`,
        );
      }
      const tokens = checkTokens("saved session", saved.tokens, vocabSize);
      await withTurn(undefined, async () => {
        cache.hold([]);
        if (tokens.length > 0) await runner.writeCache(saved.cache, tokens.length);
        cache.hold(tokens);
      });
    },
  };
}

/** What lies in a runner's cache, and the work that changes it. */
function createCache(runner: Runner): Work & {
  /** The tokens whose keys and values it holds from row 0 on. */
  tokens(): readonly number[];
  /** The cache was written by hand: it holds these. */
  hold(tokens: readonly number[]): void;
} {
  const { contextLength } = runner;
  let held: number[] = [];
  /** The plan whose branches lie in the cache behind the tokens held. */
  let planted: BranchPlan | undefined;
  let { version } = runner;

  /** Weights that were trained since make other keys and values. */
  function forgetIfStale(): void {
    if (version === runner.version) return;
    ({ version } = runner);
    held.length = 0;
    planted = undefined;
  }

  async function run(tokens: readonly number[], options: RunOptions): Promise<number> {
    const { from = tokens.length - 1, onRows, onPrefill, signal } = options;
    if (tokens.length < 1 || tokens.length > contextLength) {
      throw new RangeError(`feed: expected 1 to ${contextLength} tokens (the context), got ${tokens.length}.`);
    }
    signal?.throwIfAborted();
    forgetIfStale();
    planted = undefined;
    const cachedTokens = commonPrefix(held, tokens, from);
    const total = tokens.length - cachedTokens;
    let position = cachedTokens;
    while (position < tokens.length) {
      const count = chunkSize(position, tokens.length, from, runner);
      const outputs = Math.max(0, Math.min(count, position + count - from));
      // Forgotten first: should the chunk fail, these positions may hold anything.
      held.length = position;
      const chunk = tokens.slice(position, position + count);
      const rows = await runner.forward(batchOf([{ tokens: chunk, position, firstRow: 0, outputs }]), signal);
      held.push(...chunk);
      position += count;
      signal?.throwIfAborted();
      if (outputs > 0) onRows(rows, position - outputs);
      onPrefill?.({ done: position - cachedTokens, total });
    }
    return cachedTokens;
  }

  async function ask(
    plan: BranchPlan,
    signal?: AbortSignal,
  ): Promise<{ branches: Branches; answers: Float32Array } | undefined> {
    signal?.throwIfAborted();
    forgetIfStale();
    if (planted !== plan) plan.restart(held, runner);
    planted = undefined;
    const branches = plan.next();
    if (!branches) return undefined;
    const { tokens, slots, places, targets } = branches;
    const position = slots[0]!;
    if (held.length > position) held.length = position;
    const answers = await runner.score(branches, targets, signal);
    for (const [i, token] of tokens.entries()) {
      // The text from row 0 on; branches are no use to a text that is fed.
      if (held.length === position + i && places[i * PLACE_WORDS + placesOf.start] === 0) held.push(token);
    }
    planted = plan;
    signal?.throwIfAborted();
    return { branches, answers };
  }

  async function forward(batch: Batch, signal?: AbortSignal): Promise<Float32Array> {
    held.length = 0;
    planted = undefined;
    return runner.forward(batch, signal);
  }

  async function feed(tokens: readonly number[], options: FeedOptions = {}): Promise<Fed> {
    let logits: Float32Array = new Float32Array(0);
    const cachedTokens = await run(tokens, {
      ...options,
      onRows: (rows) => {
        logits = rows;
      },
    });
    return { logits, cachedTokens };
  }

  return {
    feed,
    run,
    ask,
    forward,
    tokens() {
      forgetIfStale();
      return held;
    },
    hold(tokens) {
      ({ version } = runner);
      held = [...tokens];
      planted = undefined;
    },
  };
}

/** Chunks without logits stop where the wanted ones begin; those with logits are as long as the runner can give. */
function chunkSize(position: number, end: number, from: number, runner: Runner): number {
  const most = Math.min(runner.maxTokens, end - position);
  if (position + most <= from) return most;
  // A chunk may begin before `from` and go on past it.
  return Math.min(most, Math.max(0, from - position) + runner.maxOutputs);
}

type Work = Pick<Turn, "feed" | "run" | "ask" | "forward">;

/** Turns at `work`: whoever holds one works alone, and gives it away if its caller keeps it waiting. */
function createTurns(work: Work): {
  readonly acquire: (signal?: AbortSignal) => Promise<Turn>;
  readonly withTurn: <T>(signal: AbortSignal | undefined, use: (turn: Turn) => Promise<T>) => Promise<T>;
} {
  const lock = createLock();

  async function acquire(signal?: AbortSignal): Promise<Turn> {
    let release: (() => void) | undefined = await lock(signal);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const giveBack = (): void => {
      clearTimeout(timer);
      release?.();
      release = undefined;
    };
    return {
      ...work,
      pause: () => {
        timer = setTimeout(giveBack, patienceMs);
      },
      resume: async (signal) => {
        clearTimeout(timer);
        if (release) return true;
        release = await lock(signal);
        return false;
      },
      release: giveBack,
    };
  }

  return {
    acquire,
    async withTurn(signal, use) {
      const turn = await acquire(signal);
      try {
        return await use(turn);
      } finally {
        turn.release();
      }
    },
  };
}
