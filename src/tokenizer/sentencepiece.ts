/**
 * SentencePiece's BPE (Kudo & Richardson 2018, arXiv:1808.06226): spaces become U+2581 `▁`, one is put in front, the
 * characters are merged by the scores of the pieces, and what is no piece falls back to bytes.
 */
import { FormatError } from "../errors.ts";
import { longestFirst } from "./added-tokens.ts";
import { cacheWords, createMerger, type Merge } from "./bpe.ts";
import { createCharsmap } from "./charsmap.ts";
import type { SentencePieceModel } from "./sentencepiece-model.ts";

/** The lower one eighth block, which stands for a space in pieces. */
export const SPACE = "\u2581";
/** Every cut of every piece is a possible merge; real pieces are at most a few dozen characters long. */
const MAX_PIECE_LENGTH = 512;

/**
 * Makes an encoder that appends a text's tokens to `out`.
 * @throws {FormatError} naming `name` if pieces are there twice, too long, or none is unknown.
 */
export function createSentencePieceEncoder(
  model: SentencePieceModel,
  name: string,
): (text: string, out: number[]) => void {
  const pieceIds = new Map<string, number>(); // what merging may produce
  const userDefined: string[] = [];
  const byteIds = new Int32Array(256).fill(-1);
  let unknownId = -1;
  const seen = new Set<string>();
  for (const [id, { text, type }] of model.pieces.entries()) {
    if (seen.has(text)) throw new FormatError(`${name}: the piece ${JSON.stringify(text)} is there twice.`);
    seen.add(text);
    if (type === "normal" || type === "user-defined" || type === "unused") pieceIds.set(text, id);
    if (type === "user-defined") userDefined.push(text);
    if (type === "unknown") unknownId = id;
    if (type === "byte") byteIds[byteOf(text, name)] = id;
  }
  if (unknownId < 0) throw new FormatError(`${name}: a piece of type "unknown" is required, got none.`);
  const hasBytes = byteIds.every((id) => id >= 0);

  const merges = listMerges(model, pieceIds, name);
  const merge = createMerger(merges);
  const frozen = userDefined.length > 0 ? longestFirst(userDefined) : undefined;
  const normalize = createNormalizer(model.normalizer, frozen, name);
  const isUnused = (symbol: number): boolean => model.pieces[symbol]?.type === "unused";
  // Ids that only pad a vocabulary are unused too; no merges lead to them.
  const resegments = merges.some(({ merged }) => isUnused(merged));
  const isCut = !resegments && !model.pieces.some(({ text }) => hasSpaceInside(text));

  const utf8 = new TextEncoder();
  function pushSymbol(symbol: number, tokens: number[]): void {
    if (symbol >= 0 && !isUnused(symbol)) return void tokens.push(symbol);
    if (!hasBytes) return void tokens.push(unknownId);
    const character = symbol >= 0 ? model.pieces[symbol]!.text : String.fromCodePoint(~symbol);
    for (const byte of utf8.encode(character)) tokens.push(byteIds[byte]!);
  }

  function encodePart(text: string, tokens: number[]): void {
    const symbols = new Int32Array(text.length);
    let count = 0;
    for (const character of text) symbols[count++] = symbolOf(character, pieceIds);
    if (!resegments) {
      count = merge(symbols, count);
      for (const symbol of symbols.subarray(0, count)) pushSymbol(symbol, tokens);
      return;
    }
    // An unused piece is a step on the way to longer ones. Where it is the end, it falls apart again, into the two that
    // came up last for it anywhere in the text (sentencepiece's bpe_model.cc, `rev_merge`); a character becomes bytes.
    const halves = new Map<number, readonly [number, number]>();
    count = merge(symbols, count, (left, right, merged) => {
      if (isUnused(merged)) halves.set(merged, [left, right]);
    });
    const pushSegments = (symbol: number): void => {
      const split = halves.get(symbol);
      if (split === undefined) return pushSymbol(symbol, tokens);
      for (const half of split) pushSegments(half);
    };
    for (const symbol of symbols.subarray(0, count)) pushSegments(symbol);
  }

  const encodeWord = cacheWords((word) => {
    const tokens: number[] = [];
    encodePart(word, tokens);
    return tokens;
  });

  /** A run of unknown characters is one unknown token. */
  function joinUnknown(out: number[], from: number): void {
    let kept = from;
    for (let i = from; i < out.length; i++) {
      if (out[i] === unknownId && kept > from && out[kept - 1] === unknownId) continue;
      out[kept++] = out[i]!;
    }
    out.length = kept;
  }

  function encodeMergeable(text: string, out: number[]): void {
    if (isCut) for (const word of cutBeforeSpaces(text)) encodeWord(word, out);
    else encodePart(text, out);
  }

  return (text, out) => {
    const from = out.length;
    const normalized = normalize(text);
    let done = 0;
    if (frozen !== undefined) {
      for (const match of normalized.matchAll(frozen)) {
        encodeMergeable(normalized.slice(done, match.index), out);
        out.push(pieceIds.get(match[0])!);
        done = match.index + match[0].length;
      }
    }
    encodeMergeable(normalized.slice(done), out);
    if (!hasBytes) joinUnknown(out, from);
  };
}

/** Whether a piece has a space inside; unless one has, nothing merges across the edge of a word. */
export function hasSpaceInside(piece: string): boolean {
  return /[^\u2581]\u2581/u.test(piece);
}

/** Cuts a text into words, each with the spaces before it. */
export function* cutBeforeSpaces(text: string): Generator<string> {
  let start = 0;
  while (start < text.length) {
    let end = start;
    while (text[end] === SPACE) end++;
    end = text.indexOf(SPACE, end);
    if (end < 0) end = text.length;
    yield text.slice(start, end);
    start = end;
  }
}

/** A piece's id, or the complement of the code point for a character that is no piece. */
function symbolOf(text: string, pieceIds: ReadonlyMap<string, number>): number {
  return pieceIds.get(text) ?? ~text.codePointAt(0)!;
}

function listMerges(model: SentencePieceModel, pieceIds: ReadonlyMap<string, number>, name: string): Merge[] {
  const byScore = [...pieceIds.values()].sort((a, b) => model.pieces[b]!.score - model.pieces[a]!.score);
  const merges: Merge[] = [];
  let rank = -1;
  let score = Number.NaN;
  for (const merged of byScore) {
    const piece = model.pieces[merged]!;
    if (piece.score !== score) rank++; // equal scores: the leftmost goes first
    score = piece.score;
    const characters = Array.from(piece.text);
    if (characters.length > MAX_PIECE_LENGTH) {
      throw new FormatError(
        `${name}: a piece has ${characters.length} characters, at most ${MAX_PIECE_LENGTH} allowed.`,
      );
    }
    for (let cut = 1, at = 0; cut < characters.length; cut++) {
      at += characters[cut - 1]!.length;
      const leftText = piece.text.slice(0, at);
      const rightText = piece.text.slice(at);
      if (cut > 1 && !pieceIds.has(leftText)) continue;
      if (cut < characters.length - 1 && !pieceIds.has(rightText)) continue;
      merges.push({ left: symbolOf(leftText, pieceIds), right: symbolOf(rightText, pieceIds), rank, merged });
    }
  }
  return merges;
}

/** @param frozen user-defined pieces: the rules leave them as they are. */
function createNormalizer(
  settings: SentencePieceModel["normalizer"],
  frozen: RegExp | undefined,
  name: string,
): (text: string) => string {
  const space = settings.escapeWhitespaces ? SPACE : " ";
  const map = settings.charsmap.length > 0 ? createCharsmap(settings.charsmap, name) : (text: string) => text;

  /** One space for a run, none at the start; a user-defined piece may keep several. */
  function joinWithoutExtraSpaces(parts: readonly { text: string; isFrozen: boolean }[]): string {
    let joined = "";
    let isAfterSpace = true;
    for (const { text, isFrozen } of parts) {
      let kept = isFrozen ? text : text.replace(/ {2,}/g, " ");
      if (isAfterSpace) kept = kept.replace(/^ +/, "");
      joined += kept;
      if (kept !== "") isAfterSpace = kept.endsWith(" ");
    }
    return joined;
  }

  function cutOutFrozen(text: string): { text: string; isFrozen: boolean }[] {
    if (frozen === undefined) return [{ text: map(text), isFrozen: false }];
    const parts: { text: string; isFrozen: boolean }[] = [];
    let done = 0;
    for (const match of text.matchAll(frozen)) {
      parts.push({ text: map(text.slice(done, match.index)), isFrozen: false }, { text: match[0], isFrozen: true });
      done = match.index + match[0].length;
    }
    parts.push({ text: map(text.slice(done)), isFrozen: false });
    return parts;
  }

  return (text) => {
    if (text === "") return "";
    const parts = cutOutFrozen(text);
    let normalized = settings.removeExtraWhitespaces
      ? joinWithoutExtraSpaces(parts)
      : parts.map((part) => part.text).join("");
    if (settings.addDummyPrefix) normalized = " " + normalized;
    if (settings.escapeWhitespaces) normalized = normalized.replaceAll(" ", SPACE);
    if (settings.removeExtraWhitespaces) {
      let end = normalized.length;
      while (end > 0 && normalized[end - 1] === space) end--;
      normalized = normalized.slice(0, end);
    }
    return normalized;
  };
}

/** Reads the byte that a piece stands for. @throws {FormatError} unless its text is `<0x00>` … `<0xFF>`. */
export function byteOf(text: string, name: string): number {
  const match = /^<0x([0-9A-F]{2})>$/.exec(text);
  if (!match) throw new FormatError(`${name}: a byte piece must read <0x00>…<0xFF>, got ${JSON.stringify(text)}.`);
  return Number.parseInt(match[1]!, 16);
}
