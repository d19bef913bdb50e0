/** The built program as its users meet it: what it prints where, and how it ends. */
import { spawn } from "node:child_process";
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { writeRandomCheckpoint } from "./support/random-checkpoint.ts";
import { mobilellm } from "./support/run-cli.ts";

const config = {
  model_type: "llama",
  hidden_size: 32,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  intermediate_size: 64,
  vocab_size: 420, // of the tokenizer in the fixtures
  max_position_embeddings: 2048,
  tie_word_embeddings: true,
};
const chatTemplate =
  "{{ bos_token }}{% for message in messages %}[{{ message.role }}] {{ message.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";

let folder: string; // random weights, no tokenizer
let chatFolder: string; // the same weights, a tokenizer and a chat template
const tokenizer = "test/fixtures/tokenizer/sp-fallback.model";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mobilellm-cli-"));
  chatFolder = await mkdtemp(join(tmpdir(), "mobilellm-cli-"));
  await writeRandomCheckpoint(folder, config);
  for (const file of ["config.json", "model.safetensors"]) await copyFile(join(folder, file), join(chatFolder, file));
  await copyFile(tokenizer, join(chatFolder, "tokenizer.model"));
  await writeFile(
    join(chatFolder, "tokenizer_config.json"),
    JSON.stringify({ bos_token: "<s>", eos_token: "</s>", chat_template: chatTemplate }),
  );
});

afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
  await rm(chatFolder, { recursive: true, force: true });
});

describe("mobilellm", () => {
  test.each([[[]], [["generate"]], [["chat"]], [["info"]], [["design"]]])(
    "%j --help shows an example",
    async (args) => {
      const { status, out, err } = await mobilellm([...args, "--help"]);
      expect({ status, err }).toEqual({ status: 0, err: "" });
      expect(out).toMatch(/^Usage: mobilellm/);
      expect(out).toContain("Example:\n  $ mobilellm");
    },
  );

  test("a bare call shows the help and counts as wrong usage", async () => {
    const { status, out, err } = await mobilellm([]);
    expect({ status, out }).toEqual({ status: 2, out: "" });
    expect(err).toMatch(/^Usage: mobilellm/);
  });

  test.each([
    [["generat"], "unknown command 'generat' (Did you mean generate?)"],
    [["generate", "--max-token", "3"], "unknown option '--max-token' (Did you mean --max-tokens?)"],
    [["generate", "--temperature", "-1"], "'-1' is invalid. Expected a number of 0 or more."],
    [["generate", "--top-p", ""], "'' is invalid. Expected a number above 0, up to 1."],
    [["generate", "--tokens", "1,x"], "Expected token ids separated by commas, such as 1,403,407."],
    [["generate", "--tokens", "1", "word"], "generate: a prompt and --tokens exclude each other."],
    [["generate", "--sharing", "nonex2"], "Expected none, or immediate, repeat or reverse"],
    [["generate", "--device", "abacus"], "'abacus' is invalid. Allowed choices are"],
    [["eval", "--tasks", "piqa,"], "Expected names such as arc_easy,piqa."],
    [["eval", "--dtypes", "f32,q9"], "Expected some of f32, bf16, q8, q4, such as f32,q8,q4."],
    [["eval", "--dtypes", "f32", "--dtype", "q8"], "eval: --dtype and --dtypes exclude each other."],
    [["info"], "info: a model is required: a folder, a .gguf file or a Hub id."],
    [["design", "--layers", "3"], "design: a shape needs --layers and --dim."],
    [["design", "--kv-heads", "3"], "design: a shape needs --layers and --dim."],
    [["design", "--parameters", "5M", "--kv-heads", "3"], "--parameters chooses the shape, so it excludes --kv-heads."],
    [["design", "--preset", "125M", "--kv-heads", "2"], "design: --kv-heads must divide the heads (9), got 2."],
    [
      ["design", "--preset", "125M", "--heads", "64"],
      "--heads must divide --dim (576) into heads of even size, got 64.",
    ],
    [["design", "--preset", "125M", "--sharing", "twice"], "Expected none, or immediate, repeat or reverse"],
  ])("wrong usage, %j, ends with 2 and one line", async (args, message) => {
    const { status, out, err } = await mobilellm(args);
    expect({ status, out }).toEqual({ status: 2, out: "" });
    expect(err).toContain(message);
    expect(err).toMatch(/^mobilellm: .*\n$/);
  });

  test("--version is the package's", async () => {
    const { status, out } = await mobilellm(["--version"]);
    const manifest = JSON.parse(await readFile("package.json", "utf8")) as { version: string };
    expect({ status, out }).toEqual({ status: 0, out: `${manifest.version}\n` });
  });

  test.each(["stdout", "stderr"] as const)("ends without complaint when nobody reads its %s", async (stream) => {
    const child = spawn(process.execPath, [
      "dist/cli/main.js",
      "generate",
      "--model",
      folder,
      "--tokens",
      "1",
      "-n",
      "300",
    ]);
    child[stream].destroy();
    let err = "";
    child.stderr.on("data", (data: Buffer) => (err += data.toString()));
    const status = await new Promise((resolve) => child.on("close", resolve));
    expect({ status, err }).toEqual({ status: 0, err: "" });
  });

  test.each([
    [["info", "/nowhere"], "/nowhere: a file or folder was required, but there is nothing at this path."],
    [["info", "package.json"], "package.json"],
    [["generate", "--model", "test"], "test: config.json was required, but is missing."],
    [["generate", "--tokenizer", "/nowhere", "--model", "test"], "/nowhere: a file or folder was required"],
    [["generate", "--tokenizer", "LICENSE", "--model", "test"], "LICENSE: tokenizer.model: "],
    [["generate", "--tokenizer", "test", "--model", "test"], "test: holds no tokenizer.json and no tokenizer.model."],
  ])("unusable data, %j, end with 1 and one line", async (args, message) => {
    const { status, out, err } = await mobilellm(args);
    expect({ status, out }).toEqual({ status: 1, out: "" });
    expect(err).toContain(message);
    expect(err).toMatch(/^mobilellm: .*\n$/);
  });
});

describe("mobilellm design", () => {
  test("--json gives MobileLLM-125M's published parameter count", async () => {
    const { status, out } = await mobilellm(["design", "--preset", "125M", "--json"]);
    expect(status).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ config: { layers: 30, dim: 576 }, parameters: { total: 124_635_456 } });
  });
});

test("mobilellm design prices layer sharing and a context length, for one shape and for many", async () => {
  const options = ["--sharing", "immediatex2", "--context-length", "4096"];
  const one = await mobilellm(["design", "--preset", "125M", ...options]);
  expect(one.out).toMatch(/schedule +immediate ×2, own keys and values: 60 applications/);
  expect(one.out).toMatch(/context +4,096 tokens/);
  expect(one.out).toMatch(/full context +377\.5 MB of cache in f32, /); // 60 × 2 × 3 × 64 numbers of 4 bytes, × 4096
  expect(one.out).toMatch(/50 kJ battery +4\.0M tokens, 111\.4 h at 10 tokens\/s/);
  const bare = await mobilellm(["design", "--json", ...options]);
  const shapes = JSON.parse(bare.out) as { applications: number; config: { layers: number; contextLength: number } }[];
  expect(shapes).toHaveLength(7);
  for (const { applications, config } of shapes) {
    expect(applications).toBe(2 * config.layers);
    expect(config.contextLength).toBe(4096);
  }
});

describe("mobilellm info", () => {
  test("tells shape, encodings and tokenizer", async () => {
    const { status, out, err } = await mobilellm(["info", chatFolder, "--tensors"]);
    expect({ status, err }).toEqual({ status: 0, err: "" });
    expect(out).toMatch(/shape +2 layers × 32, hidden 64 \(swiglu\)/);
    expect(out).toMatch(/file +safetensors: F32 in 20 tensors, /);
    expect(out).toMatch(/tokenizer +tokenizer\.model, with a chat template/);
    expect(out).toMatch(/model\.layers\.1\.mlp\.down_proj\.weight +32 × 64 +F32 +8\.2 kB/);
  });

  test("--json accounts for every parameter and byte", async () => {
    const { status, out } = await mobilellm(["info", "--model", folder, "--json"]);
    expect(status).toBe(0);
    const info = JSON.parse(out) as {
      parameters: { total: number };
      encodings: { encoding: string; parameters: number; bytes: number }[];
    };
    const { total } = info.parameters;
    expect(info).toMatchObject({ format: "safetensors", config: { dim: 32, heads: 2, kvHeads: 1 } });
    expect(info.encodings).toMatchObject([{ encoding: "F32", parameters: total, bytes: 4 * total }]);
  });

  test("--sharing and --context-length price the model as it would run with them", async () => {
    const schedule = ["--sharing", "immediatex2:first", "--context-length", "64"];
    const { status, out } = await mobilellm(["info", folder, ...schedule]);
    expect(status).toBe(0);
    expect(out).toMatch(/context +64 tokens\n +schedule +immediate ×2, .* 4 applications/);
  });
});

describe("mobilellm generate", () => {
  const greedy = ["--temperature", "0", "--ignore-eos", "--max-tokens", "12"];

  test("without a tokenizer token ids go in and come out", async () => {
    const { status, out, err } = await mobilellm(["generate", "--model", folder, "--tokens", "1,5,9", ...greedy]);
    expect(status).toBe(0);
    expect(out).toMatch(/^\d+( \d+){11}\n$/);
    expect(err).toMatch(/ · f32 · wasm .* · 3 prompt \+ 12 new tokens · [\d.]+ tokens\/s · first token after \d+ ms/);
  });

  test("a prompt without a tokenizer says what to pass", async () => {
    const { status, err } = await mobilellm(["generate", "--model", folder, "hello"]);
    expect(status).toBe(2);
    expect(err).toContain("came without a tokenizer. Pass --tokenizer <path>, or token ids with --tokens.");
  });

  test("--json gives the tokens that the reference backend gives, and the text that is streamed", async () => {
    const args = ["generate", "--model", folder, "--tokenizer", tokenizer, "one", "word", ...greedy];
    const json = await mobilellm([...args, "--json"]);
    const reference = await mobilellm([...args, "--json", "--device", "reference"]);
    const streamed = await mobilellm(args);
    const result = JSON.parse(json.out) as { text: string; tokens: number[] };
    expect(result).toMatchObject({ dtype: "f32", prompt: "one word", finishReason: "length" });
    expect(result.tokens).toEqual((JSON.parse(reference.out) as typeof result).tokens);
    expect(streamed.out).toBe(`${result.text}\n`);
    expect(json.err).toBe("");
  });

  test("the same seed gives the same text on one thread and on two", async () => {
    const args = ["generate", "--model", chatFolder, "--seed", "3", "--max-tokens", "20", "Sing"];
    const one = await mobilellm([...args, "--threads", "1"]);
    const two = await mobilellm([...args, "--threads", "2"]);
    expect(one.out.trim()).not.toBe("");
    expect(two.out).toBe(one.out);
  });

  test("the prompt comes through a pipe, or is the usual one", async () => {
    const args = ["generate", "--model", chatFolder, "--json", ...greedy];
    const piped = await mobilellm(args, { input: "from a pipe\n" });
    const empty = await mobilellm(args, { input: "" });
    expect(JSON.parse(piped.out)).toMatchObject({ prompt: "from a pipe" });
    expect(JSON.parse(empty.out)).toMatchObject({ prompt: "Once upon a time" });
  });

  test("a pipe that stays open and silent is not waited for; - waits for its end", async () => {
    const run = (...words: string[]) =>
      spawn(process.execPath, ["dist/cli/main.js", "generate", "--model", chatFolder, "--json", ...greedy, ...words]);
    const promptOf = async (child: ReturnType<typeof run>): Promise<string> => {
      let out = "";
      for await (const part of child.stdout) out += String(part);
      return (JSON.parse(out) as { prompt: string }).prompt;
    };
    const silent = run();
    expect(await promptOf(silent)).toBe("Once upon a time");
    const waiting = run("-");
    setTimeout(() => waiting.stdin.end("late\n"), 1500);
    expect(await promptOf(waiting)).toBe("late");
  });

  test("--sharing applies blocks again, which changes the text", async () => {
    const args = ["generate", "--model", folder, "--tokens", "1,5,9", ...greedy];
    const plain = await mobilellm(args);
    const shared = await mobilellm([...args, "--sharing", "immediatex2:first"]);
    expect(shared.status).toBe(0);
    expect(shared.out).not.toBe(plain.out);
  });

  test("--tokenizer takes a folder with what belongs to its tokenizer, and names the file that is damaged", async () => {
    const path = join(folder, "tokenizer");
    await mkdir(path);
    await copyFile(tokenizer, join(path, "tokenizer.model"));
    const args = ["chat", "--model", folder, "--tokenizer", path, "--max-tokens", "3"];
    await writeFile(join(path, "chat_template.jinja"), chatTemplate);
    expect(await mobilellm(args, { input: "Hello\n" })).toMatchObject({ status: 0, err: "" });
    await writeFile(join(path, "tokenizer_config.json"), "{");
    const { status, err } = await mobilellm(args, { input: "Hello\n" });
    expect(status).toBe(1);
    expect(err).toMatch(/^mobilellm: tokenizer_config\.json: valid JSON was expected \(.*\)\.\n$/);
  });

  test("Ctrl-C ends it with 130 and no complaint", async () => {
    const args = ["generate", "--model", folder, "--tokens", "1", "--ignore-eos", "--max-tokens", "2000"];
    const { status, out, err } = await mobilellm(args, { interruptAfter: /\d / });
    expect({ status, err }).toEqual({ status: 130, err: "" });
    expect(out).toMatch(/^\d+( \d+)*\n$/);
  });
});

describe("mobilellm chat", () => {
  test("answers piped lines one by one, and saves the conversation", async () => {
    const file = join(chatFolder, "chat.json");
    const input = `Hello\n/stats\n/rest\n\nAnd then?\n/save ${file}\n/exit\nnever read\n`;
    const args = ["chat", "--model", chatFolder, "--system", "Be brief.", "--seed", "1", "--max-tokens", "8"];
    const { status, err } = await mobilellm(args, { input });
    expect(status).toBe(0);
    expect(err).toContain("of 2,048 tokens of context");
    expect(err).toContain("/rest is unknown. Did you mean /reset?");
    const saved = JSON.parse(await readFile(file, "utf8")) as { messages: { role: string; content: string }[] };
    expect(saved.messages.map(({ role }) => role)).toEqual(["system", "user", "assistant", "user", "assistant"]);
    expect(saved.messages[3]).toEqual({ role: "user", content: "And then?" });
  });

  test("needs a chat template", async () => {
    const { status, err } = await mobilellm(["chat", "--model", folder, "--tokenizer", tokenizer], {
      input: "Hello\n",
    });
    expect(status).toBe(1);
    expect(err).toMatch(/^mobilellm: chat: a chat template is required, .* has none\./);
  });
});
