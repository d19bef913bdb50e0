/** `convert` and `quantize`: what they write loads again, and computes what the original computes. */
import { copyFile, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { createConvertCommand } from "../src/cli/convert.ts";
import { createQuantizeCommand } from "../src/cli/quantize.ts";
import { loadModel, openCheckpoint, type Sharing } from "../src/entries/node/index.ts";
import type { ErrorReport } from "../src/entries/node/convert.ts";
import { writeRandomCheckpoint } from "./support/random-checkpoint.ts";

const models = "test/fixtures/models";
const prompt = [1, 5, 17, 3, 40, 2, 9];

let folder: string;
let small: string; // widths of whole blocks, SentencePiece tokenizer

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mobilellm-convert-"));
  small = await createSmallModel("small", { model_type: "llama" });
  await copyFile("test/fixtures/tokenizer/sp-fallback.model", join(small, "tokenizer.model"));
  await writeFile(join(small, "tokenizer_config.json"), JSON.stringify({ bos_token: "<s>", eos_token: "</s>" }));
});

afterAll(() => rm(folder, { recursive: true, force: true }));

async function createSmallModel(name: string, extra: object): Promise<string> {
  const path = join(folder, name);
  const config = {
    hidden_size: 32,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    intermediate_size: 64,
    vocab_size: 420,
    tie_word_embeddings: true,
    ...extra,
  };
  await writeRandomCheckpoint(path, config);
  return path;
}

/** Runs a command in this process; what it printed. */
async function run(command: "convert" | "quantize", ...args: string[]): Promise<{ out: string; err: string }> {
  const out = vi.spyOn(console, "log").mockImplementation(() => {});
  const err = vi.spyOn(console, "error").mockImplementation(() => {});
  try {
    const create = command === "convert" ? createConvertCommand : createQuantizeCommand;
    await create()
      .exitOverride()
      .configureOutput({ writeErr: () => {} })
      .parseAsync(args, { from: "user" });
    return { out: out.mock.calls.join("\n"), err: err.mock.calls.join("\n") };
  } finally {
    out.mockRestore();
    err.mockRestore();
  }
}

async function logitsOf(path: string, sharing?: Sharing): Promise<Float32Array> {
  const model = await loadModel(path, { dtype: "f32", device: "reference", sharing });
  try {
    return await model.logits(prompt);
  } finally {
    await model.dispose();
  }
}

async function encodingsOf(path: string): Promise<Map<string, string>> {
  const checkpoint = await openCheckpoint(path);
  await checkpoint.close();
  return new Map(Array.from(checkpoint.tensors, ([name, { encoding }]) => [name, encoding]));
}

describe("convert", () => {
  test.each(["tied-head-28", "untied-head-80"])(
    "%s to GGUF and back gives the same logits to the bit",
    async (name) => {
      const gguf = join(folder, `${name}.gguf`);
      const back = join(folder, `${name}-back`);
      await run("convert", join(models, name), gguf);
      await run("convert", gguf, back);
      const expected = await logitsOf(join(models, name));
      expect(await logitsOf(gguf)).toEqual(expected);
      expect(await logitsOf(back)).toEqual(expected);
    },
  );

  test("to a folder in bf16, with its tokenizer", async () => {
    const out = join(folder, "bf16");
    const { out: said } = await run("convert", small, out, "--dtype", "bf16");
    expect(said).toBe(`${out}: BF16 in 20 tensors`);
    expect(new Set((await encodingsOf(out)).values())).toEqual(new Set(["BF16"]));
    expect((await readdir(out)).sort()).toEqual([
      "config.json",
      "model.safetensors",
      "tokenizer.model",
      "tokenizer_config.json",
    ]);
    expect(JSON.parse(await readFile(join(out, "config.json"), "utf8"))).toMatchObject({
      model_type: "llama",
      torch_dtype: "bfloat16",
    });
    const again = join(folder, "bf16-again");
    await run("convert", out, again);
    expect(await readFile(join(again, "model.safetensors"))).toEqual(await readFile(join(out, "model.safetensors")));
  });

  test.each([
    ["the config's", undefined],
    ["repeatx2", { kind: "repeat", repeats: 2, cache: "own" }],
    ["reversex3", { kind: "reverse", repeats: 3, cache: "own" }],
  ] as const)("layer sharing (%s) is written out as plain blocks", async (name, sharing) => {
    const shared = join(models, "layer-sharing");
    const expected = await logitsOf(shared, sharing);
    for (const out of [join(folder, `shared-${name}.gguf`), join(folder, `shared-${name}`)]) {
      const { err } = await run("convert", shared, out, ...(sharing ? ["--sharing", name] : []));
      expect(err).toContain(`2 shared blocks become ${2 * (sharing?.repeats ?? 2)} plain ones.`);
      expect(await logitsOf(out)).toEqual(expected);
    }
  });

  test("a schedule in the config is written out, and not said again", async () => {
    const sharing_schedule = { kind: "reverse", repeats: 2, cache: "own" };
    const shared = await createSmallModel("reverse", { model_type: "mobilellm", sharing_schedule });
    const expected = await logitsOf(shared);
    expect(await logitsOf(shared, { kind: "none", repeats: 1, cache: "own" })).not.toEqual(expected);
    for (const out of [join(folder, "reverse.gguf"), join(folder, "reverse-plain")]) {
      await run("convert", shared, out);
      expect(await logitsOf(out)).toEqual(expected);
    }
  });

  test("keeps the encodings of a GGUF file, and its tokenizer, to the byte", async () => {
    const [q8, copy] = [join(folder, "keep.gguf"), join(folder, "copy.gguf")];
    await run("convert", small, q8, "--dtype", "q8");
    await run("convert", q8, copy);
    expect(await encodingsOf(copy)).toEqual(await encodingsOf(q8));
    expect(await logitsOf(copy)).toEqual(await logitsOf(q8));
    const model = await loadModel(copy, { device: "reference" });
    const original = await loadModel(small, { device: "reference" });
    expect(model.tokenizer?.encode("Once upon a time")).toEqual(original.tokenizer?.encode("Once upon a time"));
    expect(model.tokenizer?.eosTokens).toEqual(original.tokenizer?.eosTokens);

    expect(await run("convert", copy, join(folder, "unpacked"))).toMatchObject({ err: "" });
    expect(await logitsOf(join(folder, "unpacked"))).toEqual(await logitsOf(q8));
  });

  test.each([
    ["a byte-level tokenizer.json", "byte-level-digits.json", "tokenizer.json"],
    ["a tokenizer.model and more rows than pieces", "sp-fallback.model", "tokenizer.model"],
  ])("%s becomes a GGUF vocabulary, and a tokenizer.json again", async (name, fixture, file) => {
    const path = await createSmallModel(fixture, { model_type: "llama", vocab_size: 640 });
    await copyFile(`test/fixtures/tokenizer/${fixture}`, join(path, file));
    const added = { 620: { content: "<|turn|>", special: true } };
    await writeFile(join(path, "tokenizer_config.json"), JSON.stringify({ added_tokens_decoder: added }));
    const { err } = await run("convert", path, join(folder, `${fixture}.gguf`));
    expect(err).toBe("");
    const original = await loadModel(path, { device: "reference" });
    const { tokenizer } = await loadModel(join(folder, `${fixture}.gguf`), { device: "reference" });
    expect(await run("convert", join(folder, `${fixture}.gguf`), join(path, "back"))).toMatchObject({ err: "" });
    expect(await readdir(join(path, "back"))).toContain("tokenizer.json");
    const back = await loadModel(join(path, "back"), { device: "reference" });
    expect(back.tokenizer?.eosTokens).toEqual(tokenizer?.eosTokens);
    for (const text of [
      "Once upon a time, 123 für 日本 🙂",
      " [PAD500] [PAD610]",
      ...(name.includes("model") ? ["a<|turn|>b"] : []),
    ]) {
      expect(tokenizer?.encode(text)).toEqual(original.tokenizer?.encode(text));
      expect(back.tokenizer?.encode(text)).toEqual(original.tokenizer?.encode(text));
    }
  });

  test("a tokenizer that GGUF can't express is left out, and that is said", async () => {
    const path = await createSmallModel("metaspace", { model_type: "llama" });
    await copyFile("test/fixtures/tokenizer/metaspace.json", join(path, "tokenizer.json"));
    const { err } = await run("convert", path, join(folder, "metaspace.gguf"));
    expect(err).toContain("The tokenizer is left out, since GGUF can't express it");
    const model = await loadModel(join(folder, "metaspace.gguf"), { device: "reference" });
    expect(model.tokenizer).toBeUndefined();
  });

  test("stays F16 where rows hold no whole blocks, and says so", async () => {
    const out = join(folder, "narrow.gguf");
    const { err } = await run("convert", join(models, "layer-sharing"), out, "--dtype", "q4");
    expect(err).toContain("F16, since a row of q4 holds whole blocks of 32: width 36, 24, 29.");
    expect(new Set((await encodingsOf(out)).values())).toEqual(new Set(["F16", "F32"]));
  });

  test("refuses what the target can't express, and leaves nothing behind", async () => {
    const before = await readdir(folder);
    const gguf = join(folder, "refused.gguf");
    const out = join(folder, "refused");
    await expect(run("convert", join(models, "relu"), gguf)).rejects.toThrow("got relu. Convert to a folder instead.");
    await expect(run("convert", join(models, "qk-norm"), gguf)).rejects.toThrow("no norms of query and key heads");
    await expect(run("convert", small, gguf, "--sharing", "immediatex2:first")).rejects.toThrow('got "first"');
    await expect(run("convert", small, out, "--dtype", "q8")).rejects.toThrow(
      "a folder takes f32, f16 or bf16, got q8",
    );
    await expect(run("quantize", small, out, "--dtype", "q8")).rejects.toThrow("a name that ends in .gguf is required");
    expect(await readdir(folder)).toEqual(before);
  });

  test("a folder whose values don't fit is not left half written", async () => {
    const large = join(folder, "large");
    await run("convert", small, large);
    const weights = await readFile(join(large, "model.safetensors"));
    new DataView(weights.buffer, weights.byteOffset).setFloat32(weights.length - 4, 1e9, true);
    await writeFile(join(large, "model.safetensors"), weights);
    const out = join(folder, "overflow");
    await expect(run("convert", large, out, "--dtype", "f16")).rejects.toThrow(/tensor \S+: .*can't hold 1000000000/);
    expect(await readdir(folder)).not.toContain("overflow");
  });

  test("overwrites only when told to, and never the model itself", async () => {
    const out = join(folder, "once");
    await run("convert", small, out);
    await writeFile(join(out, "generation_config.json"), '{"eos_token_id": 7}');
    await expect(run("convert", small, out)).rejects.toThrow("exists. Pass --force to overwrite it.");
    await run("convert", small, out, "--force", "--dtype", "f16");
    expect(await readdir(out)).not.toContain("generation_config.json");
    await expect(run("convert", out, out, "--force")).rejects.toThrow("is the model itself");
    await expect(run("convert", small, join(out, "config.json"), "--force")).rejects.toThrow("is a file");
  });
});

describe("quantize", () => {
  test.each([
    ["q8", "Q8_0", 0.002, 0.01, 8.5],
    ["q4", "Q4_1", 0.03, 0.12, 5],
  ] as const)("%s loads, and the report is sane", async (dtype, encoding, least, most, bits) => {
    const path = join(folder, `quantized-${dtype}.gguf`);
    const { out } = await run("quantize", small, path, "--dtype", dtype, "--json");
    const report = JSON.parse(out) as ErrorReport & { bytes: number };
    const find = (name: string) => report.tensors.find((tensor) => tensor.name === name)!;
    expect(report.tensors).toHaveLength(20);
    const up = find("model.layers.1.mlp.up_proj.weight");
    expect(up).toMatchObject({ from: "F32", to: encoding, bitsPerWeight: bits });
    expect(up.relativeRmsError).toBeGreaterThan(least);
    expect(up.relativeRmsError).toBeLessThan(most);
    expect(up.maxError).toBeGreaterThan(0);
    expect(find("model.embed_tokens.weight").to).toBe("Q8_0");
    expect(find("model.norm.weight")).toMatchObject({ to: "F32", relativeRmsError: 0, maxError: 0, bitsPerWeight: 32 });
    expect(report.total.maxError).toBe(Math.max(...report.tensors.map(({ maxError }) => maxError)));

    const logits = await logitsOf(path);
    expect(logits).toHaveLength(prompt.length * 420);
    expect(logits.every(Number.isFinite)).toBe(true);
    const checkpoint = await openCheckpoint(path);
    await checkpoint.close();
    expect(checkpoint.tokenizer.kind).toBe("gguf");
  });

  test("prints a table", async () => {
    const { out } = await run("quantize", small, join(folder, "table.gguf"), "--dtype", "q8");
    expect(out).toMatch(/^tensor +from +to +RMS error +largest error +bits\/weight\n/);
    expect(out).toMatch(/\nall +0\.\d{3} % +\S+ +8\.\d\d\n.*table\.gguf: \d/);
  });
});
