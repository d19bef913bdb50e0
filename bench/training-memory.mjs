// @ts-check
/**
 * Memory of one training step of MobileLLM-125M: what was planned, by class, and what the process grew by.
 *
 *   npm run build && node bench/training-memory.mjs [rows] [length] [recompute]
 */
import { presets } from "mobilellm";
import { createTrainer } from "mobilellm/training";

const [rows = "1", length = "256", recompute] = process.argv.slice(2);
const config = presets["125M"];
const before = process.memoryUsage.rss();
const trainer = await createTrainer({
  config,
  schedule: { kind: "constant", peak: 1e-3, warmupSteps: 0, steps: 10, floor: 1 },
  rows: Number(rows),
  length: Number(length),
  recompute: recompute === "recompute",
});
const row = () => Uint16Array.from({ length: Number(length) + 1 }, () => Math.floor(Math.random() * config.vocabSize));
let peak = 0;
const timer = setInterval(() => (peak = Math.max(peak, process.memoryUsage.rss())), 20);
const start = performance.now();
await trainer.step([Array.from({ length: Number(rows) }, row)]);
const seconds = (performance.now() - start) / 1000;
clearInterval(timer);

/** @param {number} bytes */
const mb = (bytes) => `${(bytes / 1e6).toFixed(0).padStart(6)} MB`;
console.log(`125M, ${rows} × ${length} tokens${recompute ? ", recompute" : ""}, a step in ${seconds.toFixed(1)} s`);
for (const [name, bytes] of Object.entries(trainer.memory)) console.log(`${name.padEnd(12)}${mb(bytes)}`);
console.log(`process grew ${mb(peak - before)}`);
await trainer.dispose();
