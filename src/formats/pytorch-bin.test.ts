import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { flipBit } from "../../test/support/memory-files.ts";
import { FormatError } from "../errors.ts";
import { createRandom } from "../random.ts";
import { bytesSource } from "./bytes.ts";
import { readTensor } from "./checkpoint.ts";
import { readPytorchBin } from "./pytorch-bin.ts";

const folder = "test/fixtures/checkpoints";
const fixture = (path: string): Uint8Array => new Uint8Array(readFileSync(`${folder}/${path}`));
const read = (bytes: Uint8Array): ReturnType<typeof readPytorchBin> => readPytorchBin(bytesSource("m.bin", bytes));

type ZipOptions = { method?: number; flags?: number; claimedBytes?: number; headerOffset?: number; zip64?: boolean };

/** A ZIP of stored entries; the options make it lie in its directory. */
function zip(entries: Readonly<Record<string, string | Uint8Array>>, options: ZipOptions = {}, copies = 1): Uint8Array {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const [name, content] of Object.entries(entries)) {
    const data = typeof content === "string" ? Buffer.from(content, "latin1") : Buffer.from(content);
    const local = Buffer.alloc(30 + name.length);
    local.writeUInt32LE(0x04034b50);
    local.writeUInt16LE(name.length, 26);
    local.write(name, 30);
    const extraBytes = options.zip64 ? 28 : 0;
    const entry = Buffer.alloc(46 + name.length + extraBytes);
    entry.writeUInt32LE(0x02014b50);
    entry.writeUInt16LE(options.flags ?? 0, 8);
    entry.writeUInt16LE(options.method ?? 0, 10);
    entry.writeUInt16LE(name.length, 28);
    entry.writeUInt16LE(extraBytes, 30);
    entry.write(name, 46);
    const numbers = [
      options.claimedBytes ?? data.length,
      options.claimedBytes ?? data.length,
      options.headerOffset ?? at,
    ];
    if (options.zip64) {
      entry.writeUInt16LE(1, 46 + name.length);
      entry.writeUInt16LE(24, 48 + name.length);
      numbers.forEach((value, i) => entry.writeBigUInt64LE(BigInt(value), 50 + name.length + 8 * i));
      numbers.fill(0xffffffff);
    }
    for (const [i, field] of [20, 24, 42].entries()) entry.writeUInt32LE(numbers.at(i) ?? 0, field);
    parts.push(local, data);
    for (let i = 0; i < copies; i++) directory.push(entry);
    at += local.length + data.length;
  }
  const directoryBytes = Buffer.concat(directory);
  const tail: Buffer[] = [];
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50);
  if (options.zip64) {
    const record = Buffer.alloc(56);
    record.writeUInt32LE(0x06064b50);
    record.writeBigUInt64LE(BigInt(directory.length), 32);
    record.writeBigUInt64LE(BigInt(directoryBytes.length), 40);
    record.writeBigUInt64LE(BigInt(at), 48);
    const locator = Buffer.alloc(20);
    locator.writeUInt32LE(0x07064b50);
    locator.writeBigUInt64LE(BigInt(at + directoryBytes.length), 8);
    tail.push(record, locator);
    end.fill(0xff, 8, 20);
  } else {
    end.writeUInt16LE(directory.length, 10);
    end.writeUInt32LE(directoryBytes.length, 12);
    end.writeUInt32LE(at, 16);
  }
  return new Uint8Array(Buffer.concat([...parts, directoryBytes, ...tail, end]));
}

/** A file whose data.pkl is the given pickle (latin1 text), with one storage of 16 bytes. */
const pickled = (pickle: string, options: ZipOptions = {}): Uint8Array =>
  zip({ "r/data.pkl": pickle, "r/data/0": new Uint8Array(16).fill(7) }, options);

/** `{"a": _rebuild_tensor_v2(storage 0, offset, size, stride, …)}` in protocol 2, as torch writes it. */
function tensorPickle(
  offset: number,
  size: readonly number[],
  stride: readonly number[],
  type = "FloatStorage",
): string {
  const int = (value: number): string => {
    const bytes = Buffer.alloc(10);
    bytes[0] = 0x8a;
    bytes[1] = 8;
    bytes.writeBigInt64LE(BigInt(value), 2);
    return bytes.toString("latin1");
  };
  const tuple = (values: readonly number[]): string => `(${values.map(int).join("")}t`;
  const text = (value: string): string => `X${String.fromCharCode(value.length)}\0\0\0${value}`;
  return (
    `\x80\x02}(${text("a")}ctorch._utils\n_rebuild_tensor_v2\n((${text("storage")}ctorch\n${type}\n${text("0")}` +
    `${text("cpu")}${int(4)}tQ${int(offset)}${tuple(size)}${tuple(stride)}\x89ccollections\nOrderedDict\n)RtRu.`
  );
}

describe("readPytorchBin", () => {
  test.each([
    ["f32", "F32", (bytes: DataView, i: number) => bytes.getFloat32(4 * i, true)],
    ["f16", "F16", (bytes: DataView, i: number) => float16(bytes.getUint16(2 * i, true))],
    ["bf16", "BF16", (bytes: DataView, i: number) => bfloat16(bytes.getUint16(2 * i, true))],
  ] as const)("reads a state dict in %s", async (name, encoding, value) => {
    const tensors = await read(fixture(`bin-${name}/pytorch_model.bin`));
    const embedding = tensors.get("model.embed_tokens.weight")!;
    expect(embedding).toMatchObject({ shape: [20, 8], encoding });
    // Embedding and head are one storage.
    expect(tensors.get("lm_head.weight")!.offset).toBe(embedding.offset);
    const bytes = new DataView((await readTensor(embedding)).buffer);
    const { embed_tokens } = JSON.parse(readFileSync(`${folder}/expected.json`, "utf8")) as { embed_tokens: number[] };
    expect(embed_tokens.map((_, i) => value(bytes, i))).toEqual(embed_tokens);
  });

  test("reads parameters, and views at an offset of a shared storage", async () => {
    const tensors = await read(fixture("odd/views.bin"));
    const floats = async (name: string): Promise<number[]> => [
      ...new Float32Array((await readTensor(tensors.get(name)!)).buffer),
    ];
    expect(await floats("a")).toEqual([0, 1, 2, 3]);
    expect(tensors.get("b")!.shape).toEqual([2, 4]);
    expect(await floats("b")).toEqual([4, 5, 6, 7, 8, 9, 10, 11]);
  });

  test("reads ZIP64", async () => {
    const a = (await read(pickled(tensorPickle(1, [3], [1]), { zip64: true }))).get("a")!;
    expect([...(await readTensor(a))]).toEqual(Array(12).fill(7));
  });

  test("says what it can't use", async () => {
    await expect(read(fixture("odd/transposed.bin"))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: tensor a must be contiguous, got strides [1, 4] for shape [4, 3]. Call .contiguous() before saving.]`,
    );
    await expect(read(fixture("odd/number.bin"))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: tensor step must be a tensor. Save model.state_dict(), without optimizer or trainer state.]`,
    );
    await expect(read(fixture("odd/int64.bin"))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: a pickle may run code; this one asks for torch.LongStorage. Only tensors of float32, float16 and bfloat16 are read.]`,
    );
    await expect(read(fixture("odd/legacy.bin"))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: this is the file format of torch before 1.6. Load it with torch.load and save it again, or convert it to safetensors.]`,
    );
    await expect(read(new Uint8Array(64))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: a ZIP as torch.save writes it was required, got something else (at byte 0).]`,
    );
    const big = zip({ "r/data.pkl": tensorPickle(0, [4], [1]), "r/data/0": new Uint8Array(16), "r/byteorder": "big" });
    await expect(read(big)).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: byte order "little" was required, got "big".]`,
    );
  });
});

describe("hostile pickles", () => {
  test("are never run: a name that is not a tensor's is refused", async () => {
    // pickle.dumps of an object whose __reduce__ is (os.system, ("echo pwned",)), protocols 2 and 4
    await expect(
      read(pickled("\x80\x02cos\nsystem\nX\n\0\0\0echo pwned\x85R.")),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: a pickle may run code; this one asks for os.system. Only tensors of float32, float16 and bfloat16 are read.]`,
    );
    await expect(
      read(pickled("\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x0aecho pwned\x94\x85\x94R\x94.")),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: a pickle may run code; this one asks for posix.system. Only tensors of float32, float16 and bfloat16 are read.]`,
    );
    await expect(read(pickled("\x80\x02c__builtin__\neval\n)R."))).rejects.toThrow("asks for __builtin__.eval");
    await expect(read(pickled("\x80\x02ctorch\nload\n)R."))).rejects.toThrow("asks for torch.load");
    // INST and OBJ, the other ways to call
    await expect(read(pickled("\x80\x02(ios\nsystem\n."))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: opcode 0x69 is not one that torch.save writes (at byte 3 of the pickle). Damaged, or not a file of weights.]`,
    );
    await expect(read(pickled("\x80\x02}\x81."))).rejects.toThrow("0x81");
  });

  test("can't grow without end", async () => {
    await expect(read(pickled("\x80\x02" + "(".repeat(2000)))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: more than 1000 marks are open (at byte 1002 of the pickle). Damaged, or not a file of weights.]`,
    );
    await expect(read(pickled("\x80\x02" + "N".repeat(1_100_000)))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: more than 1000000 values are on the stack (at byte 1000002 of the pickle). Damaged, or not a file of weights.]`,
    );
    await expect(read(pickled("\x80\x04N" + "\x94".repeat(1_100_000)))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: more than 1000000 values are remembered (at byte 1000003 of the pickle). Damaged, or not a file of weights.]`,
    );
    await expect(read(pickled("N".repeat(17 * 1024 * 1024)))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: entry r/data.pkl must have at most 16777216 bytes, got 17825792.]`,
    );
    await expect(read(pickled("\x80\x02X\xff\xff\xff\xffabc"))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: a text must have at most 65536 bytes, got 4294967295 (at byte 2 of the pickle). Damaged, or not a file of weights.]`,
    );
  });

  test("can't take what isn't on the stack, or nest themselves", async () => {
    for (const pickle of [
      "\x80\x02.",
      "\x80\x02(t(.",
      "\x80\x02(0.",
      "\x80\x02h\x07.",
      "\x80\x02]q\0h\0a.",
      "\x80\x09N.",
    ]) {
      await expect(read(pickled(pickle)), JSON.stringify(pickle)).rejects.toBeInstanceOf(FormatError);
    }
  });

  test("can't describe tensors outside their storage", async () => {
    await expect(read(pickled(tensorPickle(2, [3], [1])))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: tensor a needs bytes 8 to 20 of data/0, which has 16.]`,
    );
    await expect(read(pickled(tensorPickle(-1, [3], [1])))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: tensor a: its storage offset must be a whole number.]`,
    );
    await expect(read(pickled(tensorPickle(0, [2 ** 40, 2 ** 40], [2 ** 40, 1])))).rejects.toThrow(FormatError);
    await expect(read(pickled(tensorPickle(0, [3], [0])))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: tensor a must be contiguous, got strides [0] for shape [3]. Call .contiguous() before saving.]`,
    );
    await expect(read(pickled(tensorPickle(0, [3], [1, 1])))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: tensor a: size and stride differ in length.]`,
    );
    await expect(read(pickled(tensorPickle(0, [2], [1], "DoubleStorage")))).rejects.toThrow("torch.DoubleStorage");
  });
});

describe("hostile ZIPs", () => {
  const good = tensorPickle(0, [4], [1]);

  test("are refused where they compress, encrypt or claim more than the file has", async () => {
    await expect(read(pickled(good, { method: 8 }))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: entry r/data.pkl is compressed (method 8); torch.save stores. Save it again with torch.]`,
    );
    await expect(read(pickled(good, { flags: 1 }))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: entry r/data.pkl is encrypted.]`,
    );
    await expect(read(pickled(good, { claimedBytes: 0xfffffff0 }))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: entry r/data.pkl needs 4294967280 bytes, more than the file has (at byte 0).]`,
    );
    await expect(
      read(pickled(good, { zip64: true, claimedBytes: 2 ** 52 })),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: entry r/data.pkl needs 4503599627370496 bytes, more than the file has (at byte 0).]`,
    );
    await expect(read(pickled(good, { headerOffset: 0xfffffff0 }))).rejects.toThrow(FormatError);
    await expect(read(pickled(good, { headerOffset: 3 }))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: entry r/data.pkl has no header (at byte 3). Damaged; download it again.]`,
    );
  });

  test("are refused with too many entries, or one twice", async () => {
    await expect(read(zip({ x: "" }, { zip64: true }, 100_001))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: at most 100000 ZIP entries (33554432 bytes) were expected, got 100001 (7500075 bytes).]`,
    );
    await expect(read(zip({ x: "" }, {}, 2))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: entry x is there twice.]`,
    );
    await expect(read(zip({ "x/y": "" }))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.bin: one data.pkl was required, got 0. Was it written by torch.save?]`,
    );
  });

  test("survives truncation at every byte", async () => {
    const whole = fixture("bin-f16/pytorch_model.bin");
    for (let size = 0; size < whole.length; size++) {
      await expect(read(whole.subarray(0, size)), `${size} bytes`).rejects.toBeInstanceOf(FormatError);
    }
  });

  test("survives 1,000 flipped bits", async () => {
    const whole = fixture("bin-f16/pytorch_model.bin");
    const random = createRandom(1);
    for (let i = 0; i < 1000; i++) {
      const bytes = Uint8Array.from(whole);
      flipBit(bytes, random.below(bytes.length), random.below(8));
      const error: unknown = await read(bytes).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      if (error !== undefined) expect(error).toBeInstanceOf(FormatError);
    }
  });
});

function float16(bits: number): number {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const value = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  return bits >> 15 === 0 ? value : -value;
}

function bfloat16(bits: number): number {
  return new DataView(new Uint32Array([bits << 16]).buffer).getFloat32(0, true);
}
