/**
 * Reads SentencePiece's `.model` file: a protocol buffer (sentencepiece_model.proto) with the pieces, their scores and
 * the normalizer's settings. Only what encoding needs is kept.
 */
import { FormatError } from "../errors.ts";

/** What a piece is for. */
export type PieceType = "normal" | "unknown" | "control" | "user-defined" | "unused" | "byte";
/**
 * An entry of the vocabulary; its id is its place in the list, and the pair with the highest-scored result is merged
 * first.
 */
export type Piece = { readonly text: string; readonly score: number; readonly type: PieceType };

/** What a `.model` file says, as far as encoding needs it. */
export type SentencePieceModel = {
  readonly pieces: readonly Piece[];
  /** The beginning-of-text piece; −1 for none. */
  readonly bosId: number;
  /** The end-of-text piece; −1 for none. */
  readonly eosId: number;
  readonly normalizer: {
    /** Precompiled rules (charsmap.ts); empty for none. */
    readonly charsmap: Uint8Array;
    /** Whether a text gets a space in front. */
    readonly addDummyPrefix: boolean;
    /** Whether runs of spaces become one, and those at the ends go. */
    readonly removeExtraWhitespaces: boolean;
    /** Whether spaces become U+2581. */
    readonly escapeWhitespaces: boolean;
  };
};

/** The type of each number in the .model; llama.cpp's llama_token_type numbers them alike. */
export const PIECE_TYPES: readonly (PieceType | undefined)[] = [
  undefined,
  "normal",
  "unknown",
  "control",
  "user-defined",
  "unused",
  "byte",
];
/** The largest vocabularies in use have 262,144 pieces. */
const MAX_PIECES = 1_048_576;
const MODEL_TYPES = ["?", "Unigram", "BPE", "word", "character"];

/** Reads a `.model` file. @throws {FormatError} if the bytes are no SentencePiece BPE model. */
export function readSentencePieceModel(bytes: Uint8Array, name = "tokenizer.model"): SentencePieceModel {
  const pieces: Piece[] = [];
  let modelType = 1; // the proto's default, UNIGRAM
  let isSuffix = false;
  let bosId = 1;
  let eosId = 2;
  let charsmap: Uint8Array = new Uint8Array(0);
  let addDummyPrefix = true;
  let removeExtraWhitespaces = true;
  let escapeWhitespaces = true;

  for (const field of readFields(bytes, 0, name)) {
    if (field.number === 1) {
      if (pieces.length === MAX_PIECES) throw new FormatError(`${name}: more than ${MAX_PIECES} pieces.`);
      pieces.push(readPiece(field, name));
    } else if (field.number === 2) {
      for (const inner of readFields(...message(field, name))) {
        if (inner.number === 3) modelType = integer(inner, name);
        if (inner.number === 24) isSuffix = integer(inner, name) !== 0;
        if (inner.number === 41) bosId = integer(inner, name);
        if (inner.number === 42) eosId = integer(inner, name);
      }
    } else if (field.number === 3) {
      for (const inner of readFields(...message(field, name))) {
        if (inner.number === 2) charsmap = message(inner, name)[0];
        if (inner.number === 3) addDummyPrefix = integer(inner, name) !== 0;
        if (inner.number === 4) removeExtraWhitespaces = integer(inner, name) !== 0;
        if (inner.number === 5) escapeWhitespaces = integer(inner, name) !== 0;
      }
    }
  }
  if (pieces.length === 0) throw new FormatError(`${name}: no pieces found. Is it a SentencePiece model?`);
  if (modelType !== 2) {
    const found = MODEL_TYPES[modelType] ?? `number ${modelType}`;
    throw new FormatError(`${name}: only BPE models are supported, got model type ${found}.`);
  }
  if (isSuffix) throw new FormatError(`${name}: treat_whitespace_as_suffix is not supported.`);
  return {
    pieces,
    bosId,
    eosId,
    normalizer: { charsmap, addDummyPrefix, removeExtraWhitespaces, escapeWhitespaces },
  };
}

function readPiece(field: Field, name: string): Piece {
  let text = "";
  let score = 0;
  let type: PieceType | undefined = "normal";
  for (const inner of readFields(...message(field, name))) {
    if (inner.number === 1) text = utf8(...message(inner, name));
    if (inner.number === 2) {
      if (inner.wire !== 5) throw wrongWire(inner, name);
      score = inner.value;
    }
    if (inner.number === 3) type = PIECE_TYPES[integer(inner, name)];
  }
  if (text === "" || type === undefined || !Number.isFinite(score)) {
    throw new FormatError(`${name}: the piece at byte ${field.start} has no text, no known type or no finite score.`);
  }
  return { text, score, type };
}

/** wire 0: `value` is the integer; 1: skipped; 2: `bytes`; 5: `value` is the float. */
type Field = { number: number; wire: number; value: number; bytes: Uint8Array; start: number };

/** @param base where `bytes` begin in the file, for messages. */
function* readFields(bytes: Uint8Array, base: number, name: string): Generator<Field> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;

  function varint(): number {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (at >= bytes.length) throw new FormatError(`${name}: the file ends inside a number (at byte ${base + at}).`);
      const byte = bytes[at++]!;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new FormatError(`${name}: a number is longer than 10 bytes (at byte ${base + at}). Is the file damaged?`);
  }

  function take(count: number): number {
    if (count > bytes.length - at) {
      throw new FormatError(
        `${name}: a field needs ${count} bytes, ${bytes.length - at} remain (at byte ${base + at}). Download it again.`,
      );
    }
    at += count;
    return at - count;
  }

  while (at < bytes.length) {
    const tag = varint();
    const field: Field = { number: Math.floor(tag / 8), wire: tag % 8, value: 0, bytes: EMPTY, start: base + at };
    if (field.number === 0) throw new FormatError(`${name}: field number 0 (at byte ${base + at}).`);
    if (field.wire === 0) field.value = varint();
    else if (field.wire === 1) take(8);
    else if (field.wire === 5) field.value = view.getFloat32(take(4), true);
    else if (field.wire === 2) {
      const length = varint();
      const start = take(length);
      field.bytes = bytes.subarray(start, start + length);
      field.start = base + start;
    } else throw wrongWire(field, name);
    yield field;
  }
}

const EMPTY = new Uint8Array(0);

function message(field: Field, name: string): [Uint8Array, number, string] {
  if (field.wire !== 2) throw wrongWire(field, name);
  return [field.bytes, field.start, name];
}

function integer(field: Field, name: string): number {
  if (field.wire !== 0) throw wrongWire(field, name);
  return field.value;
}

function utf8(bytes: Uint8Array, start: number, name: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(`${name}: a piece is not valid UTF-8 (at byte ${start}).`, { cause });
  }
}

function wrongWire(field: Field, name: string): FormatError {
  return new FormatError(
    `${name}: field ${field.number} has an unexpected wire type ${field.wire} (at byte ${field.start}).`,
  );
}
