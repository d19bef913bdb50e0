// @ts-check
/**
 * Two builds of this package beside each other in one run, turn by turn: does a change cost speed? Prints the medians of both
 * and the ratio of the second to the first, more than 1 being faster.
 *
 *   node bench/builds.mjs <root of a build> <root of another> model.gguf [threads] [training threads]
 */
import { pathToFileURL } from "node:url";
import { entryOf } from "../scripts/fingerprint/entry.mjs";

const [first, second, file, threadsText = "1", trainingText = "2"] = process.argv.slice(2);
if (!first || !second || !file) {
  console.error("usage: node bench/builds.mjs <root of a build> <root of another> model.gguf [threads]");
  process.exit(2);
}
const threads = Number(threadsText);
const ROUNDS = 9;
const NEW_TOKENS = 48;
const story = "Once upon a time, there was a little girl named Lily. ";

/** @param {string} root @param {string} name */
const importEntry = async (root, name) => import(pathToFileURL(await entryOf(root, name, ["node", "default"])).href);

/** @param {string} root */
async function open(root) {
  const { loadModel, presets } = await importEntry(root, ".");
  const { createTrainer } = await importEntry(root, "./training");
  const model = await loadModel(file, { threads, dtype: "q8", contextLength: 1024 });
  const full = await loadModel(file, { threads, dtype: "f32", contextLength: 512 });
  const long = model.tokenizer.encode(story.repeat(30)).slice(0, 256);
  const shape = { dim: 192, layers: 12, heads: 6, kvHeads: 2, headSize: 32, hidden: 512, vocabSize: 4096 };
  const config = { ...presets["125M"], ...shape, contextLength: 256 };
  const schedule = { kind: "constant", peak: 1e-3 };
  const trainer = await createTrainer({ config, threads: Number(trainingText), rows: 4, length: 256, schedule });
  const rows = Array.from({ length: 4 }, (_, r) => Array.from({ length: 257 }, (_, i) => (r * 97 + i * i) % 4096));
  const requests = Array.from({ length: 12 }, (_, i) => ({
    context: long.slice(0, 60),
    continuation: long.slice(60 + i, 75 + i),
  }));
  return {
    "decode q8": () => model.generate(story, { maxTokens: NEW_TOKENS, temperature: 0, ignoreEos: true }).result,
    "decode f32": () => full.generate(story, { maxTokens: 8, temperature: 0, ignoreEos: true }).result,
    "prefill q8, 256 tokens": async () => {
      await model.session.feed([1]);
      await model.session.feed(long);
    },
    "score f32, 12 requests": async () => {
      await full.session.feed([1]);
      await full.score(requests);
    },
    "training step, 4 × 256": () => trainer.step([rows]),
  };
}

const [ours, theirs] = [await open(first), await open(second)];
for (const [name, work] of Object.entries(ours)) {
  /** @type {[number[], number[]]} */
  const times = [[], []];
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [i, run] of [work, theirs[/** @type {keyof typeof ours} */ (name)]].entries()) {
      const start = performance.now();
      await run();
      if (round > 0) times[i]?.push(performance.now() - start);
    }
  }
  const [a = 0, b = 0] = times.map((each) => each.sort((x, y) => x - y)[ROUNDS >> 1]);
  console.log(`${name.padEnd(24)} ${a.toFixed(1)} ms, ${b.toFixed(1)} ms: ${(a / b).toFixed(3)}`);
}
process.exit(0);
