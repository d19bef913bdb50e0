// @ts-check
/**
 * Training beside PyTorch, in one run, turn by turn, with the same shapes, f32, on the same number of threads. A step is forward, backward,
 * clipping and AdamW. The peer is no dependency: name a Python that has torch.
 *
 *   npm run build && node bench/train.mjs <python> [5.5M|125M] [threads]
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { presets } from "mobilellm";
import { createTrainer } from "mobilellm/training";

const shapes = {
  "5.5M": {
    config: {
      ...presets["125M"],
      vocabSize: 4096,
      dim: 192,
      layers: 12,
      heads: 6,
      kvHeads: 2,
      headSize: 32,
      hidden: 512,
    },
    rows: 8,
    stepsPerTurn: 3,
    turns: 7,
  },
  "125M": { config: presets["125M"], rows: 1, stepsPerTurn: 1, turns: 7 },
};
const LENGTH = 256;

const [python, name = "5.5M", threadsText = "2"] = process.argv.slice(2);
const shape = name === "5.5M" || name === "125M" ? shapes[name] : undefined;
if (!python || !shape) {
  console.error("usage: node bench/train.mjs <python with torch> [5.5M|125M] [threads]");
  process.exit(2);
}
const threads = Number(threadsText);
const { config, rows, stepsPerTurn, turns } = shape;

const { vocabSize, dim, layers, heads, kvHeads, hidden } = config;
const peerShape = { vocabSize, dim, layers, heads, kvHeads, hidden, rows, length: LENGTH, threads };
const peer = spawn(python, [fileURLToPath(new URL("train_peer.py", import.meta.url)), JSON.stringify(peerShape)], {
  stdio: ["pipe", "pipe", "inherit"],
});
const answers = createInterface({ input: peer.stdout })[Symbol.asyncIterator]();
/** @returns {Promise<any>} */
async function answer() {
  const { value, done } = await answers.next();
  if (done) throw new Error("the peer ended early");
  return JSON.parse(value);
}
const { parameters, torch } = await answer();

const trainer = await createTrainer({
  config,
  optimizer: { betas: [0.9, 0.95], eps: 1e-8, weightDecay: 0.1, clip: 1 },
  schedule: { kind: "constant", peak: 1e-3, warmupSteps: 0, steps: 1000, floor: 1 },
  rows,
  length: LENGTH,
  seed: 1,
  threads,
});
const randomRow = () => Uint16Array.from({ length: LENGTH + 1 }, () => Math.floor(Math.random() * vocabSize));
const step = () => trainer.step([Array.from({ length: rows }, randomRow)]);
await step();

/** Seconds a step. @type {{ ours: number[], theirs: number[] }} */
const times = { ours: [], theirs: [] };
for (let turn = 0; turn < turns; turn++) {
  peer.stdin.write(`${stepsPerTurn}\n`);
  times.theirs.push((await answer()).seconds / stepsPerTurn);
  const start = performance.now();
  for (let i = 0; i < stepsPerTurn; i++) await step();
  times.ours.push((performance.now() - start) / 1000 / stepsPerTurn);
}
peer.stdin.end();
await once(peer, "exit");

/** Forward and backward of every matrix, 6 operations a parameter and token, and of causal attention. */
const gflop = (6 * parameters * rows * LENGTH + 6 * layers * rows * LENGTH ** 2 * heads * config.headSize) / 1e9;
/** @param {number[]} values */
const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
/** @param {number} seconds */
const rate = (seconds) =>
  `${((rows * LENGTH) / seconds).toFixed(0)} tokens/s, ${(gflop / seconds).toFixed(1)} GFLOP/s (${(seconds * 1000).toFixed(0)} ms a step)`;
const [ours, theirs] = [median(times.ours), median(times.theirs)];
console.log(`${name}: ${parameters} parameters, ${rows} × ${LENGTH} tokens, medians of ${turns} turns`);
console.log(`${trainer.description}: ${rate(ours)}`);
console.log(`PyTorch ${torch}, ${threads} thread(s): ${rate(theirs)}`);
console.log(`ratio ${(theirs / ours).toFixed(2)}`);
await trainer.dispose();
