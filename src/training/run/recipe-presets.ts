/**
 * Recipes by name. The paper's two (arXiv 2402.14905, section 4.1, and the official pretrain.sh): AdamW, cosine from
 * 2e-3 to a tenth of it, 2,097,152 tokens a step. The others are for one machine without an accelerator.
 */

type RecipeJson = Readonly<Record<string, unknown>>;

const adamw = { betas: [0.9, 0.95], eps: 1e-8, weightDecay: 0.1, clip: 1 };
const prompts = ["Once upon a time", "The moon is"];

/** 32 A100s × 32 rows × 2048 tokens. */
const paperBatch = { rows: 32, accumulation: 32 };

function paper(steps: number): RecipeJson {
  return {
    model: "125M",
    data: { datasets: [{ folder: "data/text" }], length: 2048 },
    batch: paperBatch,
    optimizer: adamw,
    schedule: {
      kind: "cosine",
      peak: { value: 2e-3, atTokensPerStep: 2_097_152 },
      warmupSteps: 1000,
      steps,
      floor: 0.1,
    },
    seed: 1,
    logEvery: 10,
    evaluate: { every: 1000, rows: 256 },
    sample: { every: 1000, prompts, tokens: 64, temperature: 0.8 },
    checkpoint: { everySteps: 1000, everyMinutes: 15 },
  };
}

type LaptopShape = Readonly<Record<"dim" | "layers" | "heads" | "kvHeads" | "hidden", number>>;

function laptop(model: LaptopShape, length: number, accumulation: number, peak: number, steps: number): RecipeJson {
  return {
    model,
    data: { datasets: [{ folder: "data/stories" }], length },
    batch: { rows: 8, accumulation },
    optimizer: adamw,
    schedule: { kind: "cosine", peak, warmupSteps: steps / 50, steps, floor: 0.1 },
    seed: 1,
    evaluate: { every: 250, rows: 64 },
    sample: { every: 500, prompts, tokens: 96, temperature: 0.8 },
    checkpoint: { everySteps: 500, everyMinutes: 10 },
  };
}

export const recipePresets: Readonly<Record<string, RecipeJson>> = {
  /** 251.7 billion tokens: the paper's comparisons. */
  explore: paper(120_000),
  /** 1.007 trillion tokens: the paper's released models. */
  final: paper(480_000),
  /** Minutes: to see that everything works. */
  "laptop-1M": laptop({ dim: 128, layers: 6, heads: 4, kvHeads: 2, hidden: 256 }, 128, 1, 3e-3, 2000),
  /** A storyteller with a vocabulary of 4096: 5.5M parameters, 164 million tokens. */
  "laptop-5M": laptop({ dim: 192, layers: 12, heads: 6, kvHeads: 2, hidden: 512 }, 256, 4, 2e-3, 20_000),
  /** Days. */
  "laptop-15M": laptop({ dim: 288, layers: 16, heads: 6, kvHeads: 2, hidden: 768 }, 512, 4, 1.5e-3, 50_000),
  /** Makes a conversation partner of a checkpoint (paper, section 4.3.2: linear from 2e-5, decay 0.01). */
  finetune: {
    init: "facebook/MobileLLM-125M",
    data: { chats: { files: ["data/chats.jsonl"] }, length: 512 },
    batch: { rows: 4, accumulation: 8 },
    optimizer: { ...adamw, weightDecay: 0.01 },
    schedule: { kind: "linear", peak: 2e-5, warmupSteps: 20, steps: 1000, floor: 0 },
    seed: 1,
    evaluate: { every: 100, rows: 64 },
    sample: { every: 200, prompts, tokens: 96, temperature: 0.8 },
    checkpoint: { everySteps: 200, everyMinutes: 10 },
  },
};
