/**
 * Writes GGUF v3 that llama.cpp loads. The header comes first and names every tensor's place, so shapes must be known
 * before bytes; the bytes then pass through one tensor at a time.
 */
import { invariant, ShapeError } from "../../errors.ts";
import { decodeBlocks } from "../../tensor/blocks.ts";
import { blockLayout, rowBytes, type Encoding } from "../../tensor/encoding.ts";
import type { ByteSink } from "../bytes.ts";
import { elementCount, matrixOf } from "../checkpoint.ts";
import type { HfConfig } from "../hf-config.ts";
import { modelTensors } from "../model-tensors.ts";
import { ggufTensorName, llamaMetadata, rotaryMatrix } from "./gguf-llama.ts";
import { interleaveRotaryRows } from "./rotary-rows.ts";
import {
  DEFAULT_ALIGNMENT,
  fileTypes,
  ggufTypes,
  MAGIC,
  numberBytes,
  tensorTypes,
  type GgufMetadata,
  type GgufNumberType,
  type GgufType,
  type GgufValue,
} from "./gguf-types.ts";

/** A tensor to write, under Hugging Face's name and with its rows in Hugging Face's order. */
export type GgufTensor = {
  readonly name: string;
  readonly shape: readonly number[];
  readonly encoding: Encoding;
  /** Asked for once, when its turn comes. Vectors are widened to F32, which llama.cpp wants of norm gains. */
  readonly bytes: () => Uint8Array | Promise<Uint8Array>;
};

/** What to write, and where. */
export type WriteGgufOptions = {
  readonly sink: ByteSink;
  readonly config: HfConfig;
  /** Exactly those of `modelTensors(config)`, in the order in which they shall lie in the file. */
  readonly tensors: Iterable<GgufTensor>;
  /** `tokenizer.*` keys; empty: a file without vocabulary. See gguf-tokenizer.ts. */
  readonly tokenizer: GgufMetadata;
  /** The model's name, which the file keeps as `general.name`. */
  readonly name?: string;
  /** Called after each tensor with the bytes written so far and in all. */
  readonly onProgress?: (writtenBytes: number, totalBytes: number) => void;
  readonly signal?: AbortSignal;
};

/**
 * Writes a whole file and returns its size in bytes. Memory: the header and one tensor.
 * @throws {RangeError} if the model can't be a GGUF llama, a tensor is missing, unknown or given twice, or the vocabulary
 *   has another size.
 * @throws {ShapeError} if a tensor has another shape than the config says, or other bytes than its shape.
 */
export async function writeGguf(options: WriteGgufOptions): Promise<number> {
  const { sink, config, tokenizer, onProgress, signal } = options;
  const places = placeTensors(config, options.tensors);
  const metadata = new Map<string, GgufValue>([
    ["general.architecture", { type: "string", value: "llama" }],
    ["general.type", { type: "string", value: "model" }],
    ...(options.name === undefined ? [] : [["general.name", { type: "string", value: options.name }] as const]),
    ...generalMetadata(places),
    ...llamaMetadata(config),
    ...tokenizerMetadata(tokenizer, config),
  ]);

  const header = encodeHeader(metadata, places);
  const last = places.at(-1);
  const totalBytes = header.length + (last === undefined ? 0 : aligned(last.offset + last.byteLength));
  await sink.write(header);
  for (const place of places) {
    signal?.throwIfAborted();
    const bytes = await tensorBytes(place, config);
    await sink.write(bytes);
    const padding = aligned(bytes.length) - bytes.length;
    if (padding > 0) await sink.write(new Uint8Array(padding));
    onProgress?.(header.length + place.offset + bytes.length + padding, totalBytes);
  }
  return totalBytes;
}

/** A tensor's place. `offset` counts from the start of the data; `encoding` is the one in the file. */
type Place = {
  readonly tensor: GgufTensor;
  readonly encoding: Encoding;
  readonly offset: number;
  readonly byteLength: number;
};

function placeTensors(config: HfConfig, tensors: Iterable<GgufTensor>): readonly Place[] {
  const missing = new Map(modelTensors(config).map(({ name, shape: expected }) => [name, expected]));
  const places: Place[] = [];
  let offset = 0;
  for (const tensor of tensors) {
    const { name, shape } = tensor;
    const expected = missing.get(name);
    if (expected === undefined) {
      throw new RangeError(
        `writeGguf: tensor ${name} is given twice, or is not one of the model that config describes.`,
      );
    }
    missing.delete(name);
    if (shape.length !== expected.length || shape.some((size, axis) => size !== expected[axis])) {
      throw new ShapeError(
        `writeGguf: tensor ${name} must have shape [${expected.join(", ")}], got [${shape.join(", ")}].`,
      );
    }
    const { rows, cols } = matrixOf(shape);
    const { elements } = blockLayout[tensor.encoding];
    if (cols % elements !== 0) {
      throw new ShapeError(
        `writeGguf: tensor ${name}: a row of ${tensor.encoding} must hold whole blocks of ${elements}, got ${cols} columns.`,
      );
    }
    const encoding = shape.length === 1 ? "F32" : tensor.encoding;
    const byteLength = rowBytes(encoding, cols) * rows;
    places.push({ tensor, encoding, offset, byteLength });
    offset = aligned(offset + byteLength);
  }
  for (const name of missing.keys()) throw new RangeError(`writeGguf: tensor ${name} is missing.`);
  return places;
}

async function tensorBytes({ tensor, byteLength }: Place, config: HfConfig): Promise<Uint8Array> {
  const { name, shape, encoding } = tensor;
  const { rows, cols } = matrixOf(shape);
  const bytes = await tensor.bytes();
  const given = rowBytes(encoding, cols) * rows;
  if (bytes.length !== given) {
    throw new ShapeError(
      `writeGguf: tensor ${name} of shape [${shape.join(", ")}] takes ${given} bytes as ${encoding}, got ${bytes.length}.`,
    );
  }
  if (byteLength !== given) {
    const wide = new Float32Array(cols);
    decodeBlocks(encoding, bytes, wide);
    return new Uint8Array(wide.buffer);
  }
  const rotary = rotaryMatrix(name, shape, encoding, config);
  return rotary === undefined ? bytes : interleaveRotaryRows(bytes, rotary);
}

/** `general.file_type` says what most of the matrices' elements are in. */
function generalMetadata(places: readonly Place[]): Map<string, GgufValue> {
  const elementsIn = new Map<Encoding, number>();
  for (const { encoding, tensor } of places) {
    if (tensor.shape.length === 1) continue;
    elementsIn.set(encoding, (elementsIn.get(encoding) ?? 0) + elementCount(tensor.shape));
  }
  const [main] = Array.from(elementsIn).sort((a, b) => b[1] - a[1]);
  const isQuantized = [...elementsIn.keys()].some((encoding) => blockLayout[encoding].elements > 1);
  return new Map<string, GgufValue>([
    ["general.file_type", { type: "u32", value: fileTypes[main?.[0] ?? "F32"] }],
    ...(isQuantized ? [["general.quantization_version", { type: "u32", value: 2 }] as const] : []),
  ]);
}

/** Adds the config's special tokens where the vocabulary has none, and checks the vocabulary's size. */
function tokenizerMetadata(tokenizer: GgufMetadata, config: HfConfig): GgufMetadata {
  for (const key of tokenizer.keys()) {
    if (!key.startsWith("tokenizer.")) {
      throw new RangeError(`writeGguf: tokenizer holds the key ${key}, but only tokenizer.* keys belong there.`);
    }
  }
  const tokens = tokenizer.get("tokenizer.ggml.tokens");
  if (tokens === undefined) return new Map([["tokenizer.ggml.model", { type: "string", value: "none" }]]);
  const count = tokens.type === "array" ? tokens.value.length : 0;
  if (count !== config.vocab_size) {
    throw new RangeError(
      `writeGguf: tokenizer.ggml.tokens must hold vocab_size (${config.vocab_size}) tokens, got ${count}. Pad the vocabulary.`,
    );
  }
  const result = new Map(tokenizer);
  const [eos, eot] = config.eos_token_ids;
  for (const [name, id] of [
    ["bos", config.bos_token_id],
    ["eos", eos],
    ["eot", eot],
  ] as const) {
    const key = `tokenizer.ggml.${name}_token_id`;
    if (id !== undefined && !result.has(key)) result.set(key, { type: "u32", value: id });
  }
  return result;
}

function encodeHeader(metadata: GgufMetadata, places: readonly Place[]): Uint8Array {
  const out = createByteWriter();
  out.number("u32", MAGIC);
  out.number("u32", 3);
  out.number("u64", places.length);
  out.number("u64", metadata.size);
  for (const [key, value] of metadata) {
    out.string(key);
    out.type(value.type);
    writeValue(out, value);
  }
  for (const { tensor, encoding, offset } of places) {
    out.string(ggufTensorName(tensor.name));
    out.number("u32", tensor.shape.length);
    for (const size of tensor.shape.toReversed()) out.number("u64", size);
    out.number("u32", tensorTypeNumber(encoding));
    out.number("u64", offset);
  }
  return out.finish();
}

function tensorTypeNumber(wanted: Encoding): number {
  const [number] = [...tensorTypes].find(([, encoding]) => encoding === wanted) ?? [];
  invariant(number !== undefined, `ggml has no number for ${wanted}`);
  return number;
}

function writeValue(out: ByteWriter, value: GgufValue): void {
  if (value.type === "string") out.string(value.value);
  else if (value.type === "bool") out.number("u8", value.value ? 1 : 0);
  else if (value.type !== "array") out.number(value.type, value.value);
  else {
    out.type(value.of);
    out.number("u64", value.value.length);
    if (value.of === "string") for (const text of value.value) out.string(text);
    else if (value.of === "bool") for (const flag of value.value) out.number("u8", flag ? 1 : 0);
    else if (value.of === "array") for (const inner of value.value) writeValue(out, inner);
    else for (const number of value.value) out.number(value.of, number);
  }
}

type ByteWriter = {
  number(type: GgufNumberType, value: number | bigint): void;
  string(text: string): void;
  type(type: GgufType): void;
  /** All bytes, padded with zeros to the alignment. */
  finish(): Uint8Array;
};

function createByteWriter(): ByteWriter {
  let bytes = new Uint8Array(64 * 1024);
  let view = new DataView(bytes.buffer);
  let length = 0;
  const utf8 = new TextEncoder();

  function extend(byteCount: number): number {
    const at = length;
    length += byteCount;
    if (length > bytes.length) {
      const larger = new Uint8Array(Math.max(length, bytes.length * 2));
      larger.set(bytes);
      bytes = larger;
      view = new DataView(bytes.buffer);
    }
    return at;
  }

  function number(type: GgufNumberType, value: number | bigint): void {
    const at = extend(numberBytes[type]);
    if (type === "u64") return view.setBigUint64(at, BigInt(value), true);
    if (type === "i64") return view.setBigInt64(at, BigInt(value), true);
    const plain = Number(value);
    if (type === "f32") return view.setFloat32(at, plain, true);
    if (type === "f64") return view.setFloat64(at, plain, true);
    // The bytes of a negative number are those of its unsigned counterpart.
    if (numberBytes[type] === 1) return view.setUint8(at, plain);
    if (numberBytes[type] === 2) return view.setUint16(at, plain, true);
    view.setUint32(at, plain, true);
  }

  return {
    number,
    string(text) {
      const encoded = utf8.encode(text);
      number("u64", encoded.length);
      const at = extend(encoded.length);
      bytes.set(encoded, at);
    },
    type: (type) => number("u32", ggufTypes.indexOf(type)),
    finish() {
      extend(aligned(length) - length);
      return bytes.subarray(0, length);
    },
  };
}

function aligned(byteCount: number): number {
  return Math.ceil(byteCount / DEFAULT_ALIGNMENT) * DEFAULT_ALIGNMENT;
}
