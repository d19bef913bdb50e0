// @ts-check
/**
 * Several texts written side by side against one after the other: tokens a second of both, and whether the texts are the same.
 *
 *   npm run build && node bench/batch.mjs model.gguf [threads] [texts]
 */
import { loadModel } from "mobilellm";

const [file, threadsText = "1", countText = "8"] = process.argv.slice(2);
if (!file) {
  console.error("usage: node bench/batch.mjs model.gguf [threads] [texts]");
  process.exit(2);
}
const [threads, count] = [Number(threadsText), Number(countText)];
const model = await loadModel(file, { threads, contextLength: 256, sequences: count });
const names = ["Lily", "Tom", "a bear", "the old king", "Sam and Ann", "a small boat", "the moon", "my dog"];
const prompts = Array.from({ length: count }, (_, i) => `Once upon a time, ${names[i % names.length]}`);
const options = { maxTokens: 48, temperature: 0.8, seed: 1, ignoreEos: true };

/** @param {() => Promise<string[]>} write */
async function timed(write) {
  const start = performance.now();
  const texts = await write();
  return { texts, tokensPerSecond: (count * options.maxTokens * 1000) / (performance.now() - start) };
}
const rounds = [];
for (let round = 0; round < 3; round++) {
  const alone = await timed(async () => {
    const texts = [];
    for (const prompt of prompts) texts.push((await model.generate(prompt, options).result).text);
    return texts;
  });
  const together = await timed(async () => (await model.generate(prompts, options).results).map(({ text }) => text));
  if (alone.texts.join() !== together.texts.join()) throw new Error("a text written beside others differs");
  rounds.push([alone.tokensPerSecond, together.tokensPerSecond]);
}
const median = (/** @type {number} */ at) => rounds.map((round) => round[at] ?? 0).sort((a, b) => a - b)[1] ?? 0;
console.log(
  `${count} texts, ${threads} thread(s): ${median(0).toFixed(1)} tokens/s alone, ${median(1).toFixed(1)} together`,
);
process.exit(0);
