import { describe, expect, test } from "vitest";
import { FormatError, ShapeError } from "../../errors.ts";
import { createRandom } from "../../random.ts";
import { blockLayout, rowBytes, type Encoding } from "../../tensor/encoding.ts";
import { bytesSource, type ByteSource } from "../bytes.ts";
import { readTensor, type Checkpoint } from "../checkpoint.ts";
import type { HfConfig } from "../hf-config.ts";
import { modelTensors } from "../model-tensors.ts";
import { openGguf } from "./gguf-llama.ts";
import { readGgufHeader } from "./gguf-read.ts";
import { keepTokenizerMetadata, sentencePieceMetadata, type TokenType } from "./gguf-tokenizer.ts";
import type { GgufMetadata, GgufValue } from "./gguf-types.ts";
import { writeGguf, type GgufTensor } from "./gguf-write.ts";

const config: HfConfig = {
  model_type: "llama",
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  intermediate_size: 64,
  vocab_size: 5,
  max_position_embeddings: 128,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  hidden_act: "silu",
  isTied: true,
  layer_sharing: false,
  bos_token_id: 1,
  eos_token_ids: [2, 4],
};

const pieceTypes: readonly TokenType[] = ["unknown", "control", "control", "normal", "normal"];
const vocabulary = sentencePieceMetadata(
  pieceTypes.map((type, id) => ({ text: `\uFEFFtoken ${id} é▁`, score: -id / 4, type })),
  { vocabSize: 5, bosToken: 1, eosToken: 2, addsBos: true, addsSpacePrefix: true },
);

/** Tensors of arbitrary bytes. */
function someTensors(config: HfConfig, encodingOf: (name: string) => Encoding = () => "F32"): GgufTensor[] {
  return modelTensors(config).map(({ name, shape }, index) => {
    const encoding = shape.length === 1 ? "F32" : encodingOf(name);
    const rows = shape.length === 1 ? 1 : shape[0]!;
    const bytes = new Uint8Array(rows * rowBytes(encoding, shape.at(-1)!));
    for (let i = 0; i < bytes.length; i++) bytes[i] = Math.imul(i + 1000 * index, 0x9e3779b1) >>> 24;
    return { name, shape, encoding, bytes: () => bytes };
  });
}

async function written(options: Partial<Parameters<typeof writeGguf>[0]> = {}): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  const size = await writeGguf({
    sink: { write: async (bytes) => void chunks.push(bytes.slice()) },
    config,
    tensors: someTensors(options.config ?? config),
    tokenizer: vocabulary,
    name: "tiny",
    ...options,
  });
  const file = new Uint8Array(Buffer.concat(chunks));
  expect(file.length).toBe(size);
  return file;
}

function open(bytes: Uint8Array): Promise<Checkpoint> {
  return openGguf(bytesSource("tiny.gguf", bytes));
}

/** The messages with which bad files are refused; a case that is not refused by a FormatError fails. */
async function refusals(
  cases: readonly (readonly [what: string, bytes: Uint8Array])[],
  read: (bytes: Uint8Array) => Promise<unknown>,
): Promise<Record<string, string>> {
  const messages: Record<string, string> = {};
  for (const [what, bytes] of cases) {
    const error = await read(bytes).catch((error: unknown) => error);
    expect(error, what).toBeInstanceOf(FormatError);
    messages[what] = (error as Error).message;
  }
  return messages;
}

/** A hand-made file: parts are numbers of the given width, or strings with their length in front. */
function file(...parts: (readonly ["u8" | "u32" | "u64", number | bigint] | string)[]): Uint8Array {
  const bytes: number[] = [];
  const number = (value: number | bigint, count: number): void => {
    for (let i = 0; i < count; i++) bytes.push(Number((BigInt(value) >> BigInt(8 * i)) & 255n));
  };
  for (const part of parts) {
    if (typeof part === "string") {
      number(part.length, 8);
      bytes.push(...Buffer.from(part));
    } else number(part[1], { u8: 1, u32: 4, u64: 8 }[part[0]]);
  }
  return Uint8Array.from(bytes);
}

function start(tensors: number | bigint, keys: number | bigint): Parameters<typeof file> {
  return [
    ["u32", 0x46554747],
    ["u32", 3],
    ["u64", tensors],
    ["u64", keys],
  ];
}

describe("readGgufHeader", () => {
  test("reads a file made by hand", async () => {
    const bytes = new Uint8Array(192);
    // prettier-ignore
    bytes.set(Buffer.from([
      "47475546 03000000 0100000000000000 0300000000000000", // GGUF, version 3, one tensor, three keys
      "0100000000000000 61 05000000 feffffff", // a: i32 −2
      "0100000000000000 62 09000000 08000000 0200000000000000", // b: two strings
      "0200000000000000 6869 0000000000000000", // "hi" and ""
      "0100000000000000 63 07000000 01", // c: true
      "0100000000000000 77 02000000 0200000000000000 0300000000000000 00000000 0000000000000000", // w: F32 2 × 3 at 0
    ].join("").replaceAll(" ", ""), "hex"));
    const header = await readGgufHeader(bytesSource("hand.gguf", bytes.subarray(0, 184)));
    expect(header).toEqual({
      version: 3,
      metadata: new Map<string, GgufValue>([
        ["a", { type: "i32", value: -2 }],
        ["b", { type: "array", of: "string", value: ["hi", ""] }],
        ["c", { type: "bool", value: true }],
      ]),
      tensors: [{ name: "w", shape: [3, 2], encoding: "F32", offset: 160, byteLength: 24 }],
    });
  });

  test("says what is wrong, and where", async () => {
    const nested = Array.from({ length: 9 }, () => [["u32", 9] as const, ["u64", 1] as const]).flat();
    // prettier-ignore
    const cases: readonly (readonly [string, Uint8Array])[] = [
    ["another format", file(["u32", 0x04034b50], ["u32", 3], ["u64", 0], ["u64", 0])],
    ["big-endian files", file(["u32", 0x46554747], ["u32", 0x03000000], ["u64", 0], ["u64", 0])],
    ["version 1", file(["u32", 0x46554747], ["u32", 1], ["u64", 0], ["u64", 0])],
    ["2⁶³ keys", file(...start(0, 1n << 63n))],
    ["2⁶⁴ − 1 tensors", file(...start((1n << 64n) - 1n, 0))],
    ["a key of 2⁶⁰ bytes", file(...start(0, 1), ["u64", 1n << 60n])],
    ["a text longer than the file", file(...start(0, 1), "k", ["u32", 8], ["u64", 1 << 20])],
    ["a text of 2⁴⁰ bytes", file(...start(0, 1), "k", ["u32", 8], ["u64", 1n << 40n])],
    ["a list of 2⁵⁰ numbers", file(...start(0, 1), "k", ["u32", 9], ["u32", 4], ["u64", 1n << 50n])],
    ["a list longer than the file", file(...start(0, 1), "k", ["u32", 9], ["u32", 8], ["u64", 1 << 22])],
    ["an unknown type", file(...start(0, 1), "k", ["u32", 13])],
    ["a boolean of 2", file(...start(0, 1), "k", ["u32", 7], ["u8", 2])],
    ["a key given twice", file(...start(0, 2), "k", ["u32", 0], ["u8", 2], "k", ["u32", 0], ["u8", 2])],
    ["deeply nested lists", file(...start(0, 1), "k", ["u32", 9], ...nested)],
    ["text that is not UTF-8", file(...start(0, 1), "k", ["u32", 8], ["u64", 1], ["u8", 0xff])],
    ["an alignment of 24", file(...start(0, 1), "general.alignment", ["u32", 4], ["u32", 24])],
    ["an alignment of 0", file(...start(0, 1), "general.alignment", ["u32", 4], ["u32", 0])],
    ["five dimensions", file(...start(1, 0), "w", ["u32", 5])],
    ["no dimensions", file(...start(1, 0), "w", ["u32", 0])],
    ["a type that we don't read", file(...start(1, 0), "w", ["u32", 1], ["u64", 32], ["u32", 10], ["u64", 0])],
    ["2⁸⁰ elements", file(...start(1, 0), "w", ["u32", 2], ["u64", 1n << 40n], ["u64", 1n << 40n], ["u32", 0], ["u64", 0])],
    ["no elements", file(...start(1, 0), "w", ["u32", 1], ["u64", 0], ["u32", 0], ["u64", 0])],
    ["rows of half a block", file(...start(1, 0), "w", ["u32", 1], ["u64", 48], ["u32", 8], ["u64", 0])],
    ["a tensor off the alignment", file(...start(1, 0), "w", ["u32", 1], ["u64", 1], ["u32", 0], ["u64", 4])],
    ["a tensor past the end", file(...start(1, 0), "w", ["u32", 1], ["u64", 1024], ["u32", 0], ["u64", 64])],
    ["a tensor at 2⁶³", file(...start(1, 0), "w", ["u32", 1], ["u64", 1], ["u32", 0], ["u64", 1n << 63n])],
    ];
    const read = (bytes: Uint8Array): Promise<unknown> => readGgufHeader(bytesSource("hand.gguf", bytes));
    expect(await refusals(cases, read)).toMatchInlineSnapshot(`
      {
        "2⁶³ keys": "hand.gguf: at most 65536 metadata keys are read, the header claims 9223372036854775808 (at byte 16). The file is damaged; download it again.",
        "2⁶⁴ − 1 tensors": "hand.gguf: at most 65536 tensors are read, the header claims 18446744073709551615 (at byte 8). The file is damaged; download it again.",
        "2⁸⁰ elements": "hand.gguf: tensor w can't have shape [1099511627776, 1099511627776] (at byte 24). The file is damaged; download it again.",
        "a boolean of 2": "hand.gguf: metadata k must be 0 or 1, a boolean, got 2 (at byte 37). The file is damaged; download it again.",
        "a key given twice": "hand.gguf: metadata key k is there twice (at byte 38). The file is damaged; download it again.",
        "a key of 2⁶⁰ bytes": "hand.gguf: metadata key 0 claims 1152921504606846976 bytes, at most 65535 are read (at byte 24). The file is damaged; download it again.",
        "a list longer than the file": "hand.gguf: metadata k needs 33554432 bytes, 0 remain (at byte 49). The file is cut short; download it again.",
        "a list of 2⁵⁰ numbers": "hand.gguf: metadata k claims 1125899906842624 elements, at most 4194304 are read (at byte 37). The file is damaged; download it again.",
        "a tensor at 2⁶³": "hand.gguf: tensor w needs 4 bytes, 0 remain (at byte 9223372036854776000). Download it again.",
        "a tensor off the alignment": "hand.gguf: tensor w must start at a multiple of 32, got 4 (at byte 24). The file is damaged; download it again.",
        "a tensor past the end": "hand.gguf: tensor w needs 4096 bytes, 0 remain (at byte 128). Download it again.",
        "a text longer than the file": "hand.gguf: metadata k needs 1048576 bytes, 0 remain (at byte 45). The file is cut short; download it again.",
        "a text of 2⁴⁰ bytes": "hand.gguf: metadata k claims 1099511627776 bytes, at most 16777216 are read (at byte 37). The file is damaged; download it again.",
        "a type that we don't read": "hand.gguf: tensor w is of ggml type 10; F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K, BF16 are read (at byte 24). Quantize it to one of these.",
        "an alignment of 0": "hand.gguf: general.alignment must be a power of two (u32), got 0.",
        "an alignment of 24": "hand.gguf: general.alignment must be a power of two (u32), got 24.",
        "an unknown type": "hand.gguf: metadata k has the unknown type 13 (at byte 33). The file is damaged; download it again.",
        "another format": "hand.gguf: expected "GGUF", got 0x04034b50 (at byte 0). Is it another format?",
        "big-endian files": "hand.gguf: the file is big-endian, only little-endian is read (at byte 4). Convert it with gguf_convert_endian.py.",
        "deeply nested lists": "hand.gguf: metadata k nests arrays deeper than 4 (at byte 85). The file is damaged; download it again.",
        "five dimensions": "hand.gguf: tensor w must have 1 to 4 dimensions, got 5 (at byte 24). The file is damaged; download it again.",
        "no dimensions": "hand.gguf: tensor w must have 1 to 4 dimensions, got 0 (at byte 24). The file is damaged; download it again.",
        "no elements": "hand.gguf: tensor w can't have shape [0] (at byte 24). The file is damaged; download it again.",
        "rows of half a block": "hand.gguf: tensor w: a row of Q8_0 must hold whole blocks of 32, got 48 columns (at byte 24). The file is damaged; download it again.",
        "text that is not UTF-8": "hand.gguf: metadata k must be UTF-8 (at byte 45). The file is damaged; download it again.",
        "version 1": "hand.gguf: version must be 2 or 3, got 1 (at byte 4). Convert it with a recent llama.cpp.",
      }
    `);
  });

  test("refuses tensors that overlap", async () => {
    const info = (name: string, offset: number): Parameters<typeof file> => [
      name,
      ["u32", 1],
      ["u64", 16],
      ["u32", 0],
      ["u64", offset],
    ];
    const bytes = new Uint8Array(512);
    bytes.set(file(...start(2, 0), ...info("a", 32), ...info("b", 0)));
    await expect(readGgufHeader(bytesSource("hand.gguf", bytes))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: hand.gguf: tensor a begins inside b (at byte 128). The file is damaged; download it again.]`,
    );
  });

  test("reads a header longer than its windows, and nothing of the data", async () => {
    const tokens = Array.from({ length: 40_000 }, (_, id) => `token ${id}`);
    const tokenizer: GgufMetadata = new Map([
      ["tokenizer.ggml.tokens", { type: "array", of: "string", value: tokens } as const],
      ["tokenizer.ggml.scores", { type: "array", of: "f32", value: new Float32Array(40_000).fill(0.5) } as const],
    ]);
    const bytes = await written({ tokenizer, config: { ...config, vocab_size: 40_000 } });
    let end = 0;
    const source: ByteSource = {
      name: "tiny.gguf",
      size: bytes.length,
      read: async (offset, into) => {
        into.set(bytes.subarray(offset, offset + into.length));
        end = Math.max(end, offset + into.length);
      },
    };
    const { metadata, tensors } = await readGgufHeader(source);
    expect(metadata.get("tokenizer.ggml.tokens")?.value).toEqual(tokens);
    expect(end).toBeLessThan(tensors[0]!.offset + 1_000_000);
    expect(end).toBeLessThan(bytes.length / 2);
  });
});

describe("openGguf", () => {
  test("reads back the config, the names and the vocabulary that were written", async () => {
    const checkpoint = await open(await written());
    expect(checkpoint.config).toEqual(config);
    expect([...checkpoint.tensors.keys()]).toEqual(modelTensors(config).map(({ name }) => name));
    expect(checkpoint.tensors.get("model.layers.1.self_attn.k_proj.weight")).toMatchObject({
      shape: [16, 32],
      encoding: "F32",
    });
    if (checkpoint.tokenizer.kind !== "gguf") throw new Error("expected a vocabulary");
    expect(checkpoint.tokenizer.metadata.get("general.name")).toBe("tiny");
    const kept = keepTokenizerMetadata(checkpoint.tokenizer.metadata);
    expect(kept).toEqual(new Map([...vocabulary, ["tokenizer.ggml.eot_token_id", { type: "u32", value: 4 }]]));
  });

  test("reads back an untied head, and a file without vocabulary", async () => {
    const untied = { ...config, isTied: false, bos_token_id: undefined, eos_token_ids: [] };
    const checkpoint = await open(await written({ config: untied, tokenizer: new Map() }));
    expect(checkpoint.config).toEqual(untied);
    expect(checkpoint.tensors.get("lm_head.weight")?.shape).toEqual([5, 32]);
    expect(checkpoint.tokenizer).toEqual({ kind: "none" });
  });

  test.each(Object.keys(blockLayout) as Encoding[])("gives back the bytes of %s tensors", async (encoding) => {
    const wide = { ...config, hidden_size: 256, intermediate_size: 256, head_dim: 64 };
    const tensors = someTensors(wide, () => encoding);
    const checkpoint = await open(await written({ config: wide, tensors }));
    for (const { name, bytes } of tensors) {
      const entry = checkpoint.tensors.get(name)!;
      expect(Buffer.compare(await readTensor(entry), await bytes()), name).toBe(0);
    }
  });

  test("reads the query rows from any byte on, in Hugging Face's order", async () => {
    const checkpoint = await open(await written());
    const { source, offset, byteLength } = checkpoint.tensors.get("model.layers.0.self_attn.q_proj.weight")!;
    const whole = new Uint8Array(byteLength);
    await source.read(offset, whole);
    const random = createRandom(5);
    for (let i = 0; i < 100; i++) {
      const start = random.below(byteLength);
      const part = new Uint8Array(random.below(byteLength - start + 1));
      await source.read(offset + start, part);
      expect(Buffer.compare(part, whole.subarray(start, start + part.length)), `${part.length} from ${start}`).toBe(0);
    }
  });

  test("stores the query rows as interleaved pairs", async () => {
    const tensors = someTensors(config).map((tensor): GgufTensor => {
      if (!tensor.name.endsWith("0.self_attn.q_proj.weight")) return tensor;
      const values = Float32Array.from({ length: 32 * 32 }, (_, i) => Math.floor(i / 32)); // the row's number
      return { ...tensor, bytes: () => new Uint8Array(values.buffer) };
    });
    const file = await written({ tensors });
    const header = await readGgufHeader(bytesSource("tiny.gguf", file));
    const { offset } = header.tensors.find(({ name }) => name === "blk.0.attn_q.weight")!;
    const view = new DataView(file.buffer, offset);
    const stored = Array.from({ length: 16 }, (_, row) => view.getFloat32(row * 128, true));
    expect(stored).toEqual([0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]);
  });

  test("fails clearly or succeeds when cut short at any byte", async () => {
    const small = { hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 4, head_dim: 2, intermediate_size: 8 };
    const bytes = await written({ config: { ...config, ...small } });
    const last = bytes.length - 1; // the last tensor fills its alignment
    for (let length = 0; length <= last; length++) {
      const error = await open(bytes.subarray(0, length)).catch((error: unknown) => error);
      if (!(error instanceof FormatError)) expect(error, `cut at ${length}`).toBeInstanceOf(FormatError);
    }
  });

  test("fails clearly or succeeds when a byte is damaged, and never allocates much", async () => {
    const bytes = await written();
    const headerBytes = (await readGgufHeader(bytesSource("tiny.gguf", bytes))).tensors[0]!.offset;
    const random = createRandom(99);
    let failures = 0;
    for (let i = 0; i < 1000; i++) {
      const damaged = bytes.slice();
      damaged[random.below(headerBytes)]! ^= 1 + random.below(255);
      const source = bytesSource("tiny.gguf", damaged);
      const guarded: ByteSource = {
        ...source,
        read(offset, into) {
          expect(into.length).toBeLessThanOrEqual(bytes.length);
          return source.read(offset, into);
        },
      };
      const error = await openGguf(guarded).then(
        () => undefined,
        (error: unknown) => error,
      );
      if (error === undefined) continue;
      failures++;
      if (!(error instanceof FormatError)) expect(error, `flip ${i}`).toBeInstanceOf(FormatError);
    }
    expect(failures).toBeGreaterThan(300);
  });

  /** A written file's header, changed and without data. */
  async function changed(change: (metadata: Map<string, GgufValue>) => unknown): Promise<Uint8Array> {
    const bytes = await written();
    const { metadata, tensors } = await readGgufHeader(bytesSource("tiny.gguf", bytes));
    const edited = new Map(metadata);
    change(edited);
    // Only u32, text and lists of text are needed here; the data area is all zeros.
    const parts: Parameters<typeof file> = [...start(tensors.length, edited.size)];
    for (const [key, value] of edited) {
      parts.push(key);
      const numbers = new DataView(new ArrayBuffer(4));
      if (value.type === "string") parts.push(["u32", 8], value.value);
      else if (value.type === "bool") parts.push(["u32", 7], ["u8", value.value ? 1 : 0]);
      else if (value.type === "f32") {
        numbers.setFloat32(0, Number(value.value));
        parts.push(["u32", 6], ["u32", numbers.getUint32(0)]);
      } else if (value.type === "array") parts.push(["u32", 9], ["u32", 0], ["u64", 0]);
      else parts.push(["u32", 4], ["u32", Number(value.value)]);
    }
    const dataStart = tensors[0]!.offset;
    for (const { name, shape, offset } of tensors) {
      parts.push(name, ["u32", shape.length]);
      for (const size of shape.toReversed()) parts.push(["u64", size]);
      parts.push(["u32", 0], ["u64", offset - dataStart]);
    }
    const out = new Uint8Array(bytes.length + 4096);
    out.set(file(...parts));
    return out;
  }

  test("refuses what would change results, and metadata that don't fit the tensors", async () => {
    const cases: readonly (readonly [string, string, GgufValue | undefined])[] = [
      ["another architecture", "general.architecture", { type: "string", value: "qwen2" }],
      ["a part of a model", "split.count", { type: "u32", value: 3 }],
      ["rope scaling", "llama.rope.scaling.type", { type: "string", value: "yarn" }],
      ["a scaling factor", "llama.rope.scaling.factor", { type: "f32", value: 4 }],
      ["experts", "llama.expert_count", { type: "u32", value: 8 }],
      ["partly rotated heads", "llama.rope.dimension_count", { type: "u32", value: 4 }],
      ["a missing size", "llama.block_count", undefined],
      ["a size of the wrong type", "llama.embedding_length", { type: "string", value: "32" }],
      ["sizes per layer", "llama.attention.head_count_kv", { type: "array", of: "u8", value: new Uint8Array(0) }],
      ["kv heads that don't divide the heads", "llama.attention.head_count_kv", { type: "u32", value: 3 }],
      ["a missing epsilon", "llama.attention.layer_norm_rms_epsilon", undefined],
      ["more layers than tensors", "llama.block_count", { type: "u32", value: 1_000_000 }],
      ["fewer layers than tensors", "llama.block_count", { type: "u32", value: 1 }],
      ["another width", "llama.feed_forward_length", { type: "u32", value: 65 }],
      ["an end token outside the vocabulary", "tokenizer.ggml.eos_token_id", { type: "u32", value: 5 }],
    ];
    const files: (readonly [string, Uint8Array])[] = [];
    for (const [what, key, value] of cases) {
      const edit = (metadata: Map<string, GgufValue>): unknown =>
        value === undefined ? metadata.delete(key) : metadata.set(key, value);
      files.push([what, await changed(edit)]);
    }
    expect(await refusals(files, open)).toMatchInlineSnapshot(`
      {
        "a missing epsilon": "tiny.gguf: llama.attention.layer_norm_rms_epsilon must be a positive number, got nothing.",
        "a missing size": "tiny.gguf: llama.block_count must be a whole number from 1 to 16777216, got nothing.",
        "a part of a model": "tiny.gguf: this is one of 3 parts of a model. Merge them with llama-gguf-split --merge.",
        "a scaling factor": "tiny.gguf: llama.rope.scaling.factor must be 0 or 1 or absent, got 4. Ignoring it would change results.",
        "a size of the wrong type": "tiny.gguf: llama.embedding_length must be a whole number from 1 to 16777216, got "32".",
        "an end token outside the vocabulary": "tiny.gguf: tokenizer.ggml.eos_token_id must be a token below 5, got 5.",
        "another architecture": "tiny.gguf: general.architecture must be "llama", got "qwen2". Other architectures compute something else.",
        "another width": "tiny.gguf: tensor blk.0.ffn_gate.weight must have shape [65, 32], got [64, 32] (at byte 15456). The metadata belong to another model.",
        "experts": "tiny.gguf: llama.expert_count must be 0 or absent, got 8. Ignoring it would change results.",
        "fewer layers than tensors": "tiny.gguf: tensor blk.1.attn_norm.weight is not part of a plain Llama (at byte 40032). Leaving it out would change results.",
        "kv heads that don't divide the heads": "tiny.gguf: llama.attention.head_count_kv must divide head_count (4), got 3.",
        "more layers than tensors": "tiny.gguf: llama.block_count is 1000000, too many for the 20 tensors in the file. Download it again.",
        "partly rotated heads": "tiny.gguf: llama.rope.dimension_count must be the head size (8), got 4. Only full heads are computed.",
        "rope scaling": "tiny.gguf: llama.rope.scaling.type must be "none" or absent, got "yarn". Ignoring it would change results.",
        "sizes per layer": "tiny.gguf: llama.attention.head_count_kv must be a whole number from 1 to 16777216, got a list.",
      }
    `);
  });

  test("takes a second end token and neutral settings", async () => {
    const bytes = await changed((metadata) => {
      metadata.set("llama.rope.scaling.type", { type: "string", value: "none" });
      metadata.set("llama.expert_count", { type: "u32", value: 0 });
      metadata.set("tokenizer.ggml.eom_token_id", { type: "u32", value: 3 });
    });
    expect((await open(bytes)).config.eos_token_ids).toEqual([2, 4, 3]);
  });

  test("refuses a file without one of the tensors", async () => {
    const bytes = await written();
    const renamed = Buffer.from(bytes);
    renamed.write("blk.1.attn_q.rexght", renamed.indexOf("blk.1.attn_q.weight"));
    await expect(open(new Uint8Array(renamed))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tiny.gguf: tensor blk.1.attn_q.weight is missing. Download it again.]`,
    );
  });
});

describe("writeGguf", () => {
  test("hands over one tensor at a time, each asked for when the one before is written", async () => {
    const events: string[] = [];
    const tensors = someTensors(config).map((tensor) => ({
      ...tensor,
      bytes() {
        events.push("asked");
        return tensor.bytes();
      },
    }));
    await writeGguf({
      sink: { write: async () => void events.push("written") },
      config,
      tensors,
      tokenizer: vocabulary,
      onProgress: (done, total) => events.push(done === total ? "complete" : "progress"),
    });
    const perTensor = tensors.flatMap((_, i) => ["asked", "written", i < tensors.length - 1 ? "progress" : "complete"]);
    expect(events).toEqual(["written", ...perTensor]);
  });

  test("widens vectors to F32", async () => {
    const tensors = someTensors(config).map((tensor): GgufTensor => {
      if (tensor.shape.length > 1) return tensor;
      const halves = new Uint8Array(Uint16Array.from({ length: 32 }, () => 0x3e00).buffer); // 1.5
      return { ...tensor, encoding: "F16", bytes: () => halves };
    });
    const checkpoint = await open(await written({ tensors }));
    const gains = checkpoint.tensors.get("model.norm.weight")!;
    expect(gains.encoding).toBe("F32");
    expect(new Float32Array((await readTensor(gains)).buffer)).toEqual(new Float32Array(32).fill(1.5));
  });

  test("stops between tensors when told to", async () => {
    await expect(written({ signal: AbortSignal.abort(new Error("enough")) })).rejects.toThrow("enough");
  });

  test("refuses models that a GGUF llama can't be", async () => {
    await expect(written({ config: { ...config, layer_sharing: true } })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: writeGguf: a GGUF llama applies each block once, got layer_sharing. Write every application as a block of its own.]`,
    );
    const plain = { ...config, hidden_act: "relu" } as const;
    await expect(written({ config: plain })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: writeGguf: a GGUF llama's feed-forward is SwiGLU (silu), got relu. Keep this model in safetensors.]`,
    );
  });

  test("refuses tensors that don't fit the config", async () => {
    const tensors = someTensors(config);
    const [first, ...others] = tensors as [GgufTensor, ...GgufTensor[]];
    await expect(written({ tensors: others })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: writeGguf: tensor model.embed_tokens.weight is missing.]`,
    );
    await expect(written({ tensors: [first, ...tensors] })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: writeGguf: tensor model.embed_tokens.weight is given twice, or is not one of the model that config describes.]`,
    );
    const turned = { ...first, shape: first.shape.toReversed() };
    await expect(written({ tensors: [turned, ...others] })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: writeGguf: tensor model.embed_tokens.weight must have shape [5, 32], got [32, 5].]`,
    );
    const short = { ...first, bytes: () => new Uint8Array(8) };
    await expect(written({ tensors: [short, ...others] })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: writeGguf: tensor model.embed_tokens.weight of shape [5, 32] takes 640 bytes as F32, got 8.]`,
    );
    const wide = { ...first, encoding: "Q6_K" } as const;
    await expect(written({ tensors: [wide, ...others] })).rejects.toThrow(ShapeError);
  });

  test("refuses a vocabulary of another size and keys that are not the tokenizer's", async () => {
    const large = { ...config, vocab_size: 6 };
    await expect(written({ config: large })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: writeGguf: tokenizer.ggml.tokens must hold vocab_size (6) tokens, got 5. Pad the vocabulary.]`,
    );
    const tokenizer: GgufMetadata = new Map([["general.name", { type: "string", value: "x" }]]);
    await expect(written({ tokenizer })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: writeGguf: tokenizer holds the key general.name, but only tokenizer.* keys belong there.]`,
    );
  });
});
