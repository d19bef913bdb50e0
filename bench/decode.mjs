// @ts-check
/**
 * Decoding and prefill beside node-llama-cpp, in one run, turn by turn, on the same GGUF file and number of threads.
 * The peer is no dependency: install it in a folder of its own with `npm i --ignore-scripts node-llama-cpp` and name that.
 *
 *   npm run build && node bench/decode.mjs model.gguf <folder with node_modules/node-llama-cpp> [threads]
 */
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { loadModel } from "mobilellm";

const [file, peerFolder, threadsText = "1"] = process.argv.slice(2);
if (!file || !peerFolder) {
  console.error("usage: node bench/decode.mjs model.gguf <folder with node_modules/node-llama-cpp> [threads]");
  process.exit(2);
}
const threads = Number(threadsText);
const NEW_TOKENS = 64;
const PREFILL_TOKENS = 192;
const ROUNDS = 9;
const story = "Once upon a time, there was a little girl named Lily. ";

const peer = createRequire(join(resolve(peerFolder), "package.json")).resolve("node-llama-cpp");
const { getLlama } = await import(pathToFileURL(peer).href);
const llama = await getLlama({ gpu: false, build: "never", maxThreads: threads });
const theirs = await llama.loadModel({ modelPath: resolve(file) });
const context = await theirs.createContext({ contextSize: 512, threads });
const ours = await loadModel(file, { threads, contextLength: 512 });
if (!ours.tokenizer) throw new Error("the model needs a tokenizer");

const short = ours.tokenizer.encode(story);
const long = ours.tokenizer.encode(story.repeat(20)).slice(0, PREFILL_TOKENS);
if (theirs.tokenize(story).join() !== short.join()) throw new Error("the two do not tokenize alike");

/** @param {number} count @param {() => Promise<unknown>} work */
async function tokensPerSecond(count, work) {
  const start = performance.now();
  await work();
  return (count / (performance.now() - start)) * 1000;
}

/** @type {Record<"decode" | "prefill", { ours: number[], theirs: number[] }>} */
const rates = { decode: { ours: [], theirs: [] }, prefill: { ours: [], theirs: [] } };
/** @type {string | undefined} */
let text;
for (let round = 0; round < ROUNDS; round++) {
  const sequence = context.getSequence();
  const stream = sequence.evaluate(short, { temperature: 0, yieldEogToken: true });
  const tokens = [(await stream.next()).value];
  rates.decode.theirs.push(
    await tokensPerSecond(NEW_TOKENS, async () => {
      for (let i = 0; i < NEW_TOKENS; i++) tokens.push((await stream.next()).value);
    }),
  );
  await stream.return?.();
  await sequence.clearHistory();
  rates.prefill.theirs.push(
    await tokensPerSecond(PREFILL_TOKENS, async () => {
      const prefill = sequence.evaluate(long, { temperature: 0 });
      await prefill.next();
      await prefill.return?.();
    }),
  );
  sequence.dispose();

  const { timings, tokens: own } = await ours.generate(short, {
    temperature: 0,
    maxTokens: NEW_TOKENS + 1,
    ignoreEos: true,
  }).result;
  rates.decode.ours.push(timings.decodeTokensPerSecond);
  await ours.session.feed([short[1] ?? 0]); // forget, so that the prefill starts anew
  rates.prefill.ours.push(await tokensPerSecond(PREFILL_TOKENS, () => ours.session.feed(long)));
  text ??= own.join() === tokens.join() ? "equal" : "different (8-bit activations there, 16-bit here)";
}

/** @param {number[]} values */
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
console.log(
  `${ours.description} beside node-llama-cpp, ${threads} thread(s), medians of ${ROUNDS}; greedy tokens ${text}`,
);
for (const [name, { ours: a, theirs: b }] of Object.entries(rates)) {
  console.log(
    `${name}: ${median(a).toFixed(1)} tokens/s, node-llama-cpp ${median(b).toFixed(1)}, ratio ${(median(a) / median(b)).toFixed(2)}`,
  );
}
process.exit(0);
