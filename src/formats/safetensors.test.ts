import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { flipBit } from "../../test/support/memory-files.ts";
import { FormatError } from "../errors.ts";
import { createRandom } from "../random.ts";
import { bytesSource } from "./bytes.ts";
import { readTensor } from "./checkpoint.ts";
import { readSafetensors, writeSafetensors, type TensorToWrite } from "./safetensors.ts";

const fixture = readFileSync("test/fixtures/checkpoints/safetensors/model.safetensors");
const read = (bytes: Uint8Array): ReturnType<typeof readSafetensors> =>
  readSafetensors(bytesSource("m.safetensors", bytes));

/** A file with the given header and `dataBytes` bytes of data. */
function file(header: object | string, dataBytes: number): Uint8Array {
  const text = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const bytes = new Uint8Array(8 + text.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(text, 8);
  return bytes;
}

const tensor = (begin: number, end: number, shape: unknown = [(end - begin) / 4], dtype = "F32"): object => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

async function write(tensors: readonly TensorToWrite[], metadata?: Record<string, string>): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  await writeSafetensors({ write: async (bytes) => void parts.push(bytes) }, tensors, metadata);
  return new Uint8Array(Buffer.concat(parts));
}

describe("readSafetensors", () => {
  test("reads a hand-made file", async () => {
    const header = '{"a":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}}';
    const whole = Buffer.from("3900000000000000" + Buffer.from(header).toString("hex") + "803f0040", "hex");
    const a = (await read(whole)).get("a")!;
    expect(a).toMatchObject({ name: "a", shape: [1, 2], encoding: "BF16", offset: 65, byteLength: 4 });
    expect(Buffer.from(await readTensor(a)).toString("hex")).toBe("803f0040");
  });

  test("reads what Python wrote", async () => {
    const tensors = await read(fixture);
    expect(tensors.get("model.layers.0.self_attn.k_proj.weight")!.shape).toEqual([4, 8]);
    const { embed_tokens } = JSON.parse(readFileSync("test/fixtures/checkpoints/expected.json", "utf8")) as {
      embed_tokens: number[];
    };
    const bytes = await readTensor(tensors.get("model.embed_tokens.weight")!);
    expect([...new Float32Array(bytes.buffer, 0, 8)]).toEqual(embed_tokens);
  });

  test("takes empty tensors and an empty file", async () => {
    expect((await read(file({}, 0))).size).toBe(0);
    expect((await read(file({ a: tensor(0, 0, [0, 4]), b: tensor(0, 4), c: tensor(4, 4, [0]) }, 4))).size).toBe(3);
  });

  test("refuses overlaps, holes and bytes that no tensor owns", async () => {
    await expect(read(file({ a: tensor(0, 8), b: tensor(4, 12) }, 12))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.safetensors: tensor b overlaps tensor a (at byte 120).]`,
    );
    await expect(read(file({ a: tensor(0, 8), b: tensor(12, 16) }, 16))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.safetensors: tensor b leaves a hole after tensor a (at byte 129).]`,
    );
    await expect(read(file({ a: tensor(0, 8) }, 9))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.safetensors: no tensor owns the file's last bytes (70 to 71).]`,
    );
    await expect(read(file({ a: tensor(0, 8), b: tensor(0, 8) }, 8))).rejects.toThrow("overlaps");
  });

  test("refuses absurd sizes before it allocates", async () => {
    await expect(
      read(new Uint8Array([255, 255, 255, 255, 255, 255, 255, 255, 123])),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.safetensors: the header claims 18446744073709551615 bytes, 1 remain (at byte 0). Not safetensors, or cut short; download it again.]`,
    );
    await expect(
      read(file({ a: tensor(0, 8, [2 ** 40, 2 ** 40, 2 ** 40]) }, 8)),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.safetensors: tensor a: F32 of shape [1099511627776, 1099511627776, 1099511627776] takes 5.316911983139664e+36 bytes, but its range has 8.]`,
    );
    await expect(read(file({ a: tensor(0, 4e9) }, 8))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.safetensors: tensor a needs 4000000000 bytes, 8 remain (at byte 80). Download it again.]`,
    );
    await expect(read(file({ a: tensor(0, 4, Array(9).fill(1)) }, 4))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.safetensors: tensor a: shape must hold at most 8 whole numbers, got [1,1,1,1,1,1,1,1,1].]`,
    );
    await expect(read(file({ a: tensor(0, 4, [-1]) }, 4))).rejects.toThrow(FormatError);
    await expect(read(file({ a: tensor(-4, 0) }, 4))).rejects.toThrow(FormatError);
  });

  test("refuses types it can't use, names twice, and a header that is no description", async () => {
    await expect(read(file({ a: tensor(0, 8, [1], "I64") }, 8))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.safetensors: tensor a must be one of F32, F16, BF16, got "I64".]`,
    );
    const once = JSON.stringify(tensor(0, 4));
    await expect(read(file(`{"a":${once},"\\u0061":${once}}`, 4))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.safetensors: the header names "a" twice.]`,
    );
    await expect(read(file("[]", 0))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.safetensors: the header must be a JSON object, got [].]`,
    );
    await expect(read(file("{", 0))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.safetensors: the header must be JSON (at byte 8). Not safetensors, or damaged; download it again.]`,
    );
    await expect(read(file({ a: 3 }, 0))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: m.safetensors: tensor a must be described by an object, got 3.]`,
    );
  });

  test("survives headers that are deep or long", async () => {
    const deep = "[".repeat(200_000) + "]".repeat(200_000);
    await expect(read(file(`{"a":${deep}}`, 0))).rejects.toBeInstanceOf(FormatError);
    await expect(read(file(`{"a":{"dtype":${deep}}}`, 0))).rejects.toBeInstanceOf(FormatError);
    await expect(read(file(`{"a":{"dtype":"F32","shape":${deep}}}`, 0))).rejects.toBeInstanceOf(FormatError);
    const long = 'x\\"{'.repeat(1_000_000);
    expect((await read(file(`{"__metadata__":{"a":"${long}","b" : "${long}"}}`, 0))).size).toBe(0);
    await expect(read(file(`{"__metadata__":{"a\\"":"${long}","a\\"" : "1"}}`, 0))).rejects.toThrow("twice");
  });

  test("survives truncation at every byte", async () => {
    for (let size = 0; size < fixture.length; size++) {
      await expect(read(fixture.subarray(0, size)), `${size} bytes`).rejects.toBeInstanceOf(FormatError);
    }
  });

  test("survives 1,000 flipped bits", async () => {
    const random = createRandom(1);
    for (let i = 0; i < 1000; i++) {
      const bytes = Uint8Array.from(fixture);
      // Half of them in the header, where they hurt.
      flipBit(bytes, random.below(i % 2 === 0 ? 1400 : bytes.length), random.below(8));
      const error: unknown = await read(bytes).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      if (error !== undefined) expect(error).toBeInstanceOf(FormatError);
    }
  });
});

describe("writeSafetensors", () => {
  const a = { name: "a", shape: [3], encoding: "BF16", bytes: () => new Uint8Array([1, 2, 3, 4, 5, 6]) } as const;
  const b = { name: "b", shape: [2, 1], encoding: "F32", bytes: async () => new Uint8Array(8).fill(9) } as const;

  test("writes what readSafetensors reads back, aligned", async () => {
    const bytes = await write([a, b]);
    const tensors = await read(bytes);
    expect(tensors.get("a")).toMatchObject({ shape: [3], encoding: "BF16" });
    expect([...(await readTensor(tensors.get("a")!))]).toEqual([1, 2, 3, 4, 5, 6]);
    expect([...(await readTensor(tensors.get("b")!))]).toEqual([9, 9, 9, 9, 9, 9, 9, 9]);
    expect(tensors.get("b")!.offset % 8).toBe(0);
  });

  test("tells transformers that the layout is PyTorch's", async () => {
    expect(Buffer.from(await write([])).toString("latin1", 8)).toContain('{"__metadata__":{"format":"pt"}}');
  });

  test("refuses bytes that don't match the shape, and a name given twice", async () => {
    await expect(write([{ ...a, bytes: () => new Uint8Array(5) }])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: writeSafetensors: tensor a of shape [3] takes 6 bytes, got 5.]`,
    );
    await expect(write([a, a])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[RangeError: writeSafetensors: tensor a was given twice.]`,
    );
  });
});
