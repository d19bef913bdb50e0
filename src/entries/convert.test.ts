import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { writeRandomCheckpoint } from "../../test/support/random-checkpoint.ts";
import { convert, exportTokenizer, quantize } from "./node/convert.ts";
import { openCheckpoint } from "./node/index.ts";
import * as web from "./web/convert.ts";

let root: string;
let model: string;
let bytes: Record<string, Uint8Array>; // of the same model
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "mobilellm-convert-"));
  model = join(root, "model");
  await writeRandomCheckpoint(model, {
    model_type: "llama",
    hidden_size: 32,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    intermediate_size: 64,
    vocab_size: 420,
    tie_word_embeddings: true,
  });
  await writeFile(join(model, "tokenizer.model"), await readFile("test/fixtures/tokenizer/sp-fallback.model"));
  const names = await readdir(model);
  bytes = Object.fromEntries(
    await Promise.all(names.map(async (name) => [name, await readFile(join(model, name))] as const)),
  );
});
afterAll(() => rm(root, { recursive: true }));

it("writes the same bytes from a path and from bytes, to a file and to a folder", async () => {
  const out = join(root, "model.gguf");
  const fractions: number[] = [];
  const onProgress = (fraction: number): void => void fractions.push(fraction);
  const { tensors } = await convert({ model, out, dtype: "q8", onProgress });
  const made = await web.convert({ model: bytes, format: "gguf", dtype: "q8" });
  expect(Object.keys(made.files)).toEqual(["model.gguf"]);
  expect(Buffer.from(made.files["model.gguf"]!)).toEqual(await readFile(out));
  expect(made.tensors).toEqual(tensors);
  expect(tensors[0]).toEqual({ name: "model.embed_tokens.weight", shape: [420, 32], from: "F32", to: "Q8_0" });
  expect(fractions.at(-1)).toBe(1);

  const folder = join(root, "folder");
  await convert({ model: out, out: folder, dtype: "bf16" });
  const { files } = await web.convert({ model: made.files["model.gguf"]!, format: "safetensors", dtype: "bf16" });
  expect(Object.keys(files).toSorted()).toEqual((await readdir(folder)).toSorted());
  for (const [name, content] of Object.entries(files)) {
    expect(Buffer.from(content), name).toEqual(await readFile(join(folder, name)));
  }
});

it("takes an open checkpoint, and leaves it open", async () => {
  const checkpoint = await openCheckpoint(model);
  const first = await web.convert({ model: checkpoint, format: "gguf" });
  expect(await web.convert({ model: checkpoint, format: "gguf" })).toEqual(first);
  await checkpoint.close();
});

it("quantizes, and says what each tensor lost", async () => {
  const out = join(root, "small.gguf");
  const { tensors, total } = await quantize({ model, out, dtype: "q4" });
  const { file, ...report } = await web.quantize({ model: bytes, dtype: "q4" });
  expect(Buffer.from(file)).toEqual(await readFile(out));
  expect(report).toEqual({ tensors, total, notes: [] });
  const projection = tensors.find(({ name }) => name.endsWith("q_proj.weight"));
  expect(projection).toMatchObject({ from: "F32", to: "Q4_1", bitsPerWeight: 5 });
  expect(total.relativeRmsError).toBeGreaterThan(0);
  expect(total.relativeRmsError).toBeLessThan(0.1);
});

it("gives a model's tokenizer in files, out of a GGUF file too", async () => {
  const gguf = join(root, "with-tokenizer.gguf");
  await convert({ model, out: gguf });
  const out = join(root, "tokenizer");
  const { files } = await exportTokenizer({ model: gguf, out });
  expect((await readdir(out)).toSorted()).toEqual(files.toSorted());
  const made = await web.exportTokenizer({ model: await readFile(gguf) });
  expect(Object.keys(made.files)).toEqual(files);
  expect((await web.exportTokenizer({ model: bytes })).files["tokenizer.model"]).toEqual(
    new Uint8Array(bytes["tokenizer.model"]!),
  );
});

it("refuses what it doesn't know, and to write over the model that it reads", async () => {
  const out = join(root, "never.gguf");
  const messages = [
    () => convert({ model, out, dtyp: "q8" } as never),
    () => convert({ model, out: join(root, "never"), dtype: "q8" }),
    () => convert({ model, out, dtype: "q16" as never }),
    () => convert({ model, out: model }),
    () => quantize({ model, out: join(root, "never"), dtype: "q8" }),
    () => quantize({ model, out, dtype: "f16" as never }),
    () => exportTokenizer({ model, to: out } as never),
    () => web.convert({ model: bytes, format: "onnx" as never }),
  ].map((ask) =>
    ask().then(
      () => "no error",
      (error: unknown) => String(error).replaceAll(root, "ROOT"),
    ),
  );
  expect(await Promise.all(messages)).toMatchInlineSnapshot(`
    [
      "TypeError: convert: unknown option "dtyp". Did you mean "dtype"?",
      "RangeError: convert: a folder takes f32, f16 or bf16, got q8. Name a .gguf file for it.",
      "RangeError: convert.dtype: expected one of f32, f16, bf16, q8, q4, got "q16". Did you mean "f16"?",
      "RangeError: convert: out: another place than the model's was required, got ROOT/model. Choose another name.",
      "RangeError: quantize: out: a name that ends in .gguf was required, got ROOT/never.",
      "RangeError: quantize.dtype: expected one of q8, q4, got "f16".",
      "TypeError: exportTokenizer: unknown option "to". Known: model, out, hub.",
      "RangeError: convert.format: expected one of gguf, safetensors, got "onnx".",
    ]
  `);
  expect((await readdir(root)).filter((name) => name.startsWith("never"))).toEqual([]);
});
