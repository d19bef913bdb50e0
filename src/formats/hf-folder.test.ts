import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { memoryFiles } from "../../test/support/memory-files.ts";
import { FormatError } from "../errors.ts";
import { readTensor, type Checkpoint } from "./checkpoint.ts";
import { openHfFolder } from "./hf-folder.ts";
import { atomicFileSink, fileSource, folderFiles } from "./node-files.ts";
import { writeSafetensors } from "./safetensors.ts";
import { modelTensors } from "./model-tensors.ts";
import { parseHfConfig } from "./hf-config.ts";

const fixtures = "test/fixtures/checkpoints";
const openFixture = (name: string): Promise<Checkpoint> => openHfFolder(folderFiles(`${fixtures}/${name}`));

const config = {
  model_type: "llama",
  hidden_size: 8,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 12,
  vocab_size: 20,
};

/** A safetensors file with zeros for what `config` needs, after `change` has had its way with the list. */
async function weights(
  change: (shapes: Map<string, readonly number[]>) => void = () => {},
  more: object = {},
): Promise<Uint8Array> {
  const listed = modelTensors(parseHfConfig({ ...config, ...more }, "config.json"));
  const shapes = new Map<string, readonly number[]>(listed.map(({ name, shape }) => [name, shape]));
  change(shapes);
  const parts: Uint8Array[] = [];
  await writeSafetensors(
    { write: async (bytes) => void parts.push(bytes) },
    [...shapes].map(([name, shape]) => ({
      name,
      shape,
      encoding: "BF16",
      bytes: () => new Uint8Array(2 * shape.reduce((product, size) => product * size, 1)),
    })),
  );
  return new Uint8Array(Buffer.concat(parts));
}

const openMemory = (files: Record<string, Uint8Array | string | object>): Promise<Checkpoint> =>
  openHfFolder(memoryFiles("tiny", files));

describe("openHfFolder", () => {
  test.each([
    ["safetensors", "safetensors", true],
    ["sharded", "safetensors", false],
    ["head-only", "safetensors", true],
    ["bin-f32", "pytorch", true],
    ["bin-f16", "pytorch", true],
    ["bin-bf16", "pytorch", true],
  ] as const)("opens the %s folder that Python wrote", async (name, format, isTied) => {
    const checkpoint = await openFixture(name);
    try {
      expect(checkpoint).toMatchObject({ name, format, tokenizer: { kind: "none" } });
      expect(checkpoint.config.isTied).toBe(isTied);
      expect(checkpoint.config.layer_sharing).toBe(name === "bin-f16");
      expect([...checkpoint.tensors.keys()]).toEqual(modelTensors(checkpoint.config).map(({ name }) => name));
      const embedding = checkpoint.tensors.get("model.embed_tokens.weight")!;
      expect(embedding.shape).toEqual([20, 8]);
      expect((await readTensor(embedding)).some((byte) => byte !== 0)).toBe(true);
    } finally {
      await checkpoint.close();
    }
  });

  test("uses a lone head as the embedding, which is what the dropped one held", async () => {
    const [a, b] = await Promise.all([openFixture("safetensors"), openFixture("head-only")]);
    const name = "model.embed_tokens.weight";
    expect(await readTensor(b.tensors.get(name)!)).toEqual(await readTensor(a.tensors.get(name)!));
    await a.close();
    await b.close();
  });

  test("ties an untied config whose file has only one of the two, and ignores inverse frequencies", async () => {
    const model = await weights((shapes) => {
      shapes.delete("lm_head.weight");
      shapes.set("model.layers.0.self_attn.rotary_emb.inv_freq", [2]);
    });
    const checkpoint = await openMemory({ "config.json": config, "model.safetensors": model });
    expect(checkpoint.config.isTied).toBe(true);
    expect(checkpoint.tensors.has("lm_head.weight")).toBe(false);
    expect([...checkpoint.tensors.keys()].some((name) => name.includes("inv_freq"))).toBe(false);
  });

  test("wants no gate in a ReLU model", async () => {
    const relu = { ...config, hidden_act: "relu" };
    const model = await weights(undefined, relu);
    expect((await openMemory({ "config.json": relu, "model.safetensors": model })).tensors.size).toBe(11);
    await expect(
      openMemory({ "config.json": relu, "model.safetensors": await weights() }),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: model.safetensors: tensor model.layers.0.mlp.gate_proj.weight (96 elements) is not one that config.json asks for. Leaving it out would change results.]`,
    );
  });

  test("refuses tensors that are missing, misshapen or unknown", async () => {
    const open = async (change: (shapes: Map<string, readonly number[]>) => void): Promise<Checkpoint> =>
      openMemory({ "config.json": config, "model.safetensors": await weights(change) });
    await expect(open((s) => s.delete("model.layers.0.mlp.up_proj.weight"))).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: model.safetensors: tensor model.layers.0.mlp.up_proj.weight was required, but is missing. Does config.json belong to this file?]`,
    );
    await expect(
      open((s) => s.set("model.layers.0.self_attn.k_proj.weight", [4, 8])),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: model.safetensors: tensor model.layers.0.self_attn.k_proj.weight must have shape [8, 8], got [4, 8]. Does config.json belong to this file?]`,
    );
    await expect(
      open((s) => s.set("model.layers.0.self_attn.q_proj.bias", [8])),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: model.safetensors: tensor model.layers.0.self_attn.q_proj.bias (8 elements) is not one that config.json asks for. Leaving it out would change results.]`,
    );
    await expect(
      open((s) => {
        s.delete("lm_head.weight");
        s.delete("model.embed_tokens.weight");
      }),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: model.safetensors: model.embed_tokens.weight or lm_head.weight was required, got neither. Is this a language model?]`,
    );
  });

  test("says what a folder lacks", async () => {
    await expect(openMemory({})).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tiny: config.json was required, but is missing. It holds no files.]`,
    );
    await expect(openMemory({ "a.gguf": "" })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tiny: config.json was required, but is missing. It holds one GGUF file: pass the file, tiny/a.gguf.]`,
    );
    await expect(openMemory({ "a.gguf": "", "b.gguf": "" })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tiny: config.json was required, but is missing. It holds 2 GGUF files: pass one of them, such as tiny/a.gguf.]`,
    );
    await expect(openMemory({ "config.json": config, "README.md": "" })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: tiny: weights were required (model.safetensors, model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json), got config.json, README.md.]`,
    );
    await expect(
      openMemory({ "config.json": "{", "model.safetensors": "" }),
    ).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: config.json: valid JSON was expected (Expected property name or '}' in JSON at position 1).]`,
    );
  });

  test("refuses an index that lies", async () => {
    const files = { "config.json": config, "a.safetensors": await weights() };
    const open = (weight_map: unknown): Promise<Checkpoint> =>
      openMemory({ ...files, "model.safetensors.index.json": { weight_map } });
    await expect(open([])).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: model.safetensors.index.json: weight_map must be an object of tensor: file, got [].]`,
    );
    await expect(open({ x: "../../etc/passwd" })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: model.safetensors.index.json: names ../../etc/passwd, which is not in tiny. Download it too.]`,
    );
    await expect(open({ x: "a.safetensors" })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: model.safetensors.index.json: tensor x is in none of the files it names.]`,
    );
    await expect(open({ x: 3 })).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: model.safetensors.index.json: weight_map must name a file for x, got 3.]`,
    );
  });

  test("gathers tokenizer files, the chat template and every end token", async () => {
    const checkpoint = await openMemory({
      "config.json": config,
      "model.safetensors": await weights(),
      "tokenizer.json": "{}",
      "tokenizer_config.json": { chat_template: "old", add_bos_token: true },
      "special_tokens_map.json": { bos_token: "<s>", add_bos_token: false },
      "chat_template.jinja": "new",
      "generation_config.json": { eos_token_id: [5, 2] },
    });
    expect(checkpoint.config.eos_token_ids).toEqual([2, 5]);
    expect(checkpoint.tokenizer).toEqual({
      kind: "files",
      tokenizerJson: new TextEncoder().encode("{}"),
      config: { chat_template: "new", add_bos_token: true, bos_token: "<s>" },
    });
  });
});

describe("files on disk", () => {
  let folder: string;
  beforeEach(async () => void (folder = await mkdtemp(join(tmpdir(), "mobilellm-"))));
  afterEach(() => rm(folder, { recursive: true }));

  test("are read at any offset into the caller's array", async () => {
    await writeFile(join(folder, "a"), "0123456789");
    const source = await fileSource(join(folder, "a"));
    const into = new Uint8Array(3);
    await source.read(4, into);
    expect(Buffer.from(into).toString()).toBe("456");
    await expect(source.read(8, into)).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: a: 3 bytes were required at byte 8, 2 remain. Was the file changed?]`,
    );
    await source.close();
  });

  test("are missed in one line", async () => {
    await expect(fileSource("no/such/file")).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: no/such/file: a file was required, but there is nothing at this path.]`,
    );
    await expect(folderFiles("no/such/folder").list()).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: no/such/folder: a folder was required, but there is nothing at this path.]`,
    );
    await expect(fileSource("src")).rejects.toThrowErrorMatchingInlineSnapshot(
      `[FormatError: src: a file was required, got a folder or device.]`,
    );
    await expect(folderFiles("src/formats/hf-folder.ts").list()).rejects.toThrow("this is not a folder");
  });

  test("stay inside their folder", async () => {
    for (const path of ["../x", "/etc/passwd", "a/../../x", "..\\x", "C:\\x", ""]) {
      await expect(folderFiles(folder).open(path), path).rejects.toBeInstanceOf(FormatError);
    }
  });

  test("appear whole on commit and leave nothing on abort", async () => {
    const path = join(folder, "model.safetensors");
    const sink = await atomicFileSink(path);
    await sink.write(new TextEncoder().encode("one "));
    await sink.write(new TextEncoder().encode("two"));
    expect(await readdir(folder)).not.toContain("model.safetensors");
    await sink.commit();
    await sink.abort();
    const other = await atomicFileSink(path);
    await other.write(new Uint8Array(5));
    await other.abort();
    expect(await readdir(folder)).toEqual(["model.safetensors"]);
    expect(await readFile(path, "utf8")).toBe("one two");
  });
});
