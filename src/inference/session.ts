/**
 * A session owns a runner's key/value cache. It remembers which tokens the cache holds, so that text which starts like
 * the text before it is not run again, and it lets one operation at the runner at a time.
 */
import { FormatError } from "../errors.ts";
import * as o from "../options.ts";
import { PLACE_WORDS, placesOf } from "../tensor/places.ts";
import { type Batch, batchOf } from "./batch.ts";
import type { Branches, BranchPlan } from "./branches.ts";
import type { Runner } from "./runner.ts";
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
  acquire(signal?: AbortSignal): Promise<Turn>;
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
  const lock = createLock();
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

  const nameOfWeights = async (): Promise<string> => `${fingerprint}, weights ${await runner.digest()}`;

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

  async function acquire(signal?: AbortSignal): Promise<Turn> {
    let release: (() => void) | undefined = await lock(signal);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const giveBack = (): void => {
      clearTimeout(timer);
      release?.();
      release = undefined;
    };
    return {
      feed,
      run,
      ask,
      forward,
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

  async function withTurn<T>(signal: AbortSignal | undefined, work: (turn: Turn) => Promise<T>): Promise<T> {
    const turn = await acquire(signal);
    try {
      return await work(turn);
    } finally {
      turn.release();
    }
  }

  return {
    vocabSize,
    contextLength,
    cacheRows,
    maxTokens,
    maxOutputs,
    bosToken,
    eosTokens,
    get tokens() {
      return held.slice();
    },
    acquire,
    feed: async (tokens, options = {}) => {
      o.check("feed", feedSchema, options);
      const checked = checkTokens("feed", tokens, vocabSize);
      return withTurn(options.signal, (turn) => turn.feed(checked, options));
    },
    save: () =>
      withTurn(undefined, async () => {
        forgetIfStale();
        const cache = held.length === 0 ? new Uint8Array(0) : await runner.readCache(held.length);
        return packSession(await nameOfWeights(), held, cache);
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
        forgetIfStale();
        held = [];
        planted = undefined;
        if (tokens.length > 0) await runner.writeCache(saved.cache, tokens.length);
        held = tokens;
      });
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

/** First come, first served. Resolves to the function that lets the next one in. */
function createLock(): (signal?: AbortSignal) => Promise<() => void> {
  const waiting: (() => void)[] = [];
  let isTaken = false;

  function releaseOnce(): () => void {
    let isDone = false;
    return () => {
      if (isDone) return;
      isDone = true;
      const next = waiting.shift();
      if (next) next();
      else isTaken = false;
    };
  }

  return async (signal) => {
    signal?.throwIfAborted();
    if (isTaken) {
      await new Promise<void>((resolve, reject) => {
        const enter = (): void => {
          signal?.removeEventListener("abort", leave);
          resolve();
        };
        const leave = (): void => {
          waiting.splice(waiting.indexOf(enter), 1);
          reject(signal?.reason as Error);
        };
        signal?.addEventListener("abort", leave, { once: true });
        waiting.push(enter);
      });
    }
    isTaken = true;
    return releaseOnce();
  };
}

// A saved session, little-endian: magic (8 bytes), version, length of the fingerprint, number of tokens, 0 (u32 each),
// length of the cache (u64), fingerprint (UTF-8, padded to 4), tokens (u32 each), cache (padded to 4), checksum (u32).
const magic = "MLMSESS\n";
const version = 1;
const headerBytes = 32;

function packSession(fingerprint: string, tokens: readonly number[], cache: Uint8Array): Uint8Array {
  const name = new TextEncoder().encode(fingerprint);
  const tokensAt = headerBytes + padded(name.length);
  const cacheAt = tokensAt + 4 * tokens.length;
  const checksumAt = cacheAt + padded(cache.length);
  const bytes = new Uint8Array(checksumAt + 4);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(magic), 0);
  view.setUint32(8, version, true);
  view.setUint32(12, name.length, true);
  view.setUint32(16, tokens.length, true);
  view.setBigUint64(24, BigInt(cache.length), true);
  bytes.set(name, headerBytes);
  for (const [i, token] of tokens.entries()) view.setUint32(tokensAt + 4 * i, token, true);
  bytes.set(cache, cacheAt);
  view.setUint32(checksumAt, checksum(bytes.subarray(0, checksumAt)), true);
  return bytes;
}

function unpackSession(input: Uint8Array, fingerprint: string): { tokens: number[]; cache: Uint8Array } {
  if (!(input instanceof Uint8Array)) throw new TypeError("restore: expected the Uint8Array that save gave.");
  // The checksum reads whole words, which need an aligned start.
  const bytes = input.byteOffset % 4 === 0 ? input : input.slice();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < headerBytes + 4 || new TextDecoder("latin1").decode(bytes.subarray(0, 8)) !== magic) {
    throw new FormatError(
      `saved session: expected the bytes that save gave, got ${bytes.length} bytes of another kind.`,
    );
  }
  if (view.getUint32(8, true) !== version) {
    throw new FormatError(`saved session: expected version ${version}, got ${view.getUint32(8, true)}. Save it again.`);
  }
  const nameLength = view.getUint32(12, true);
  const tokenCount = view.getUint32(16, true);
  const cacheLength = Number(view.getBigUint64(24, true));
  const tokensAt = headerBytes + padded(nameLength);
  const cacheAt = tokensAt + 4 * tokenCount;
  const checksumAt = cacheAt + padded(cacheLength);
  if (bytes.length !== checksumAt + 4) {
    throw new FormatError(
      `saved session: needs ${checksumAt + 4} bytes, got ${bytes.length}. It was cut short or damaged; save it again.`,
    );
  }
  if (view.getUint32(checksumAt, true) !== checksum(bytes.subarray(0, checksumAt))) {
    throw new FormatError("saved session: the checksum does not match, so the bytes are damaged. Save it again.");
  }
  const name = new TextDecoder().decode(bytes.subarray(headerBytes, headerBytes + nameLength));
  if (name !== fingerprint) {
    throw new FormatError(
      `saved session: belongs to the model "${name}", this one is "${fingerprint}". Load that model, or feed the text again.`,
    );
  }
  const tokens = Array.from({ length: tokenCount }, (_, i) => view.getUint32(tokensAt + 4 * i, true));
  return { tokens, cache: bytes.slice(cacheAt, cacheAt + cacheLength) };
}

function padded(length: number): number {
  return Math.ceil(length / 4) * 4;
}

/** FNV-1a over 32-bit words: each step is a bijection, so a change within one word always shows. */
function checksum(bytes: Uint8Array): number {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  let hash = 0x811c9dc5;
  for (const word of words) hash = Math.imul(hash ^ word, 0x01000193);
  return hash >>> 0;
}
