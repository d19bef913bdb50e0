/** A Qwen3 (RMSNorm of each query and key head) against transformers: logits, greedy text, gradients; and saved as one. */
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Device, type Dtype, loadModel } from "mobilellm";
import { createTrainer } from "mobilellm/training";
import { describe, expect, it } from "vitest";

type Digest = { readonly norm: number; readonly probe: number };
type Golden = {
  readonly cases: readonly {
    readonly tokens: readonly number[];
    readonly last_logits: readonly number[];
    readonly argmax: readonly number[];
  }[];
  readonly greedy: { readonly prompt: readonly number[]; readonly tokens: readonly number[] };
  readonly loss: number;
  readonly gradients: Readonly<Record<string, Digest>>;
};

const folder = fileURLToPath(new URL("fixtures/models/qk-norm", import.meta.url));
const golden = JSON.parse(await readFile(join(folder, "golden.json"), "utf8")) as Golden;
const schedule = { kind: "constant", peak: 1e-3 } as const;

const largest = (values: readonly number[]): number => values.reduce((a, b) => Math.max(a, b), 0);

describe.each<readonly [string, Device, number]>([
  ["wasm with 1 thread", "wasm", 1],
  ["wasm with 2 threads", "wasm", 2],
  ["the reference device", "reference", 1],
])("on %s", (_, device, threads) => {
  it("gives transformers' logits and greedy text", async () => {
    const model = await loadModel(folder, { device, threads, dtype: "f32" });
    expect(model.config.qkNorm).toBe(true);
    const { vocabSize } = model.config;
    for (const { tokens, last_logits, argmax } of golden.cases) {
      const logits = await model.logits(tokens);
      const rows = argmax.map((_, row) => logits.subarray(row * vocabSize, (row + 1) * vocabSize));
      expect(rows.map((row) => row.indexOf(largest([...row])))).toEqual(argmax);
      expect(largest(last_logits.map((logit, i) => Math.abs(logit - rows.at(-1)![i]!)))).toBeLessThan(1e-4);
    }
    const { prompt, tokens } = golden.greedy;
    const options = { temperature: 0, maxTokens: tokens.length, ignoreEos: true };
    expect((await model.generate(prompt, options).result).tokens).toEqual(tokens);
    await model.dispose();
  });

  it("gives torch's gradients", async () => {
    const trainer = await createTrainer({ model: folder, device, threads, schedule });
    const row = golden.cases.at(-1)!.tokens;
    const { loss, tokens } = await trainer.evaluate([row]);
    expect(loss / tokens).toBeCloseTo(golden.loss, 5);
    const gradients = await trainer.gradients([row]);
    expect([...gradients.keys()].toSorted()).toEqual(Object.keys(golden.gradients).toSorted());
    for (const [name, gradient] of gradients) {
      const { norm, probe } = golden.gradients[name]!;
      const own = Math.sqrt(gradient.reduce((sum, value) => sum + value * value, 0));
      const ownProbe = gradient.reduce((sum, value, i) => sum + value * Math.sin(0.7 * i + 0.3), 0);
      expect(Math.abs(own - norm) / norm, name).toBeLessThan(2e-5);
      expect(Math.abs(ownProbe - probe) / norm, name).toBeLessThan(2e-5);
    }
    await trainer.dispose();
  });
});

it.each<Dtype>(["f32", "bf16", "q8", "q4"])(
  "writes the same in %s on one thread and two, token by token or at once",
  async (dtype) => {
    const tokens = golden.cases.at(-1)!.tokens;
    const logits = [];
    for (const threads of [1, 2]) {
      const model = await loadModel(folder, { threads, dtype });
      logits.push(await model.logits(tokens));
      for (let end = 1; end < tokens.length; end++) await model.session.feed(tokens.slice(0, end));
      const { logits: last } = await model.session.feed(tokens);
      expect(last).toEqual(logits[0]!.slice(-model.config.vocabSize));
      await model.dispose();
    }
    expect(logits[1]).toEqual(logits[0]);
  },
);

it("is saved as the qwen3 that it is, and with shared layers as no one else's", async () => {
  const root = await mkdtemp(join(tmpdir(), "mobilellm-qk-"));
  try {
    const trainer = await createTrainer({ model: folder, schedule });
    await trainer.step([[golden.cases.at(-1)!.tokens]]);
    await trainer.save(join(root, "plain"));
    const config = JSON.parse(await readFile(join(root, "plain/config.json"), "utf8")) as Record<string, unknown>;
    expect(config).toMatchObject({ model_type: "qwen3", architectures: ["Qwen3ForCausalLM"], head_dim: 10 });
    const model = await loadModel(join(root, "plain"), { dtype: "f32" });
    const live = await trainer.openModel();
    expect(await model.logits([5, 6, 7])).toEqual(await live.logits([5, 6, 7]));
    for (const each of [model, live, trainer]) await each.dispose();

    const sharing = { kind: "immediate", repeats: 2, cache: "own" } as const;
    const shared = await createTrainer({ model: folder, schedule, sharing });
    await shared.save(join(root, "shared"));
    await shared.dispose();
    const again = await loadModel(join(root, "shared"));
    expect(again.config).toMatchObject({ qkNorm: true, sharing });
    await again.dispose();
  } finally {
    await rm(root, { recursive: true });
  }
});
