// @ts-check
/**
 * The first documents of HellaSwag, f32, beside lm-evaluation-harness with transformers in one run: turn by turn, seconds and scores. The
 * peer is no dependency: name a Python that has lm_eval, transformers, accelerate and gguf.
 *
 *   npm run build && node bench/hellaswag.mjs <python> <model.gguf> <data folder> [documents] [threads]
 */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { loadModel } from "mobilellm";
import { evaluate } from "mobilellm/evaluation";

const [python, source, data, documents = "200", threads = "2"] = process.argv.slice(2);
if (!python || !source || !data) {
  console.error("usage: node bench/hellaswag.mjs <python> <model.gguf> <data folder> [documents] [threads]");
  process.exit(2);
}

async function ours() {
  const model = await loadModel(source, { dtype: "f32", threads: Number(threads), contextLength: 2048 });
  const start = performance.now();
  // The harness has no unconditional score.
  const { tasks } = await evaluate(model, {
    tasks: ["hellaswag"],
    data,
    limit: Number(documents),
    unconditional: false,
  });
  const seconds = (performance.now() - start) / 1000;
  await model.dispose();
  const { metrics } = /** @type {NonNullable<typeof tasks[string]>} */ (tasks["hellaswag"]);
  return { seconds, acc: metrics["acc"]?.value, acc_norm: metrics["acc_norm"]?.value };
}

/** @returns {Promise<{ seconds: number, acc: number, acc_norm: number }>} */
async function theirs() {
  const script = fileURLToPath(new URL("hellaswag_peer.py", import.meta.url));
  const { stdout } = await promisify(execFile)(python, [script, source, data, documents, threads], {
    maxBuffer: 1 << 26,
  });
  return JSON.parse(stdout.trimEnd().split("\n").at(-1) ?? "");
}

const before = await ours();
const peer = await theirs();
const after = await ours();
for (const [name, { seconds, acc, acc_norm }] of Object.entries({
  mobilellm: before,
  harness: peer,
  "mobilellm again": after,
})) {
  console.log(`${name}: ${seconds.toFixed(1)} s, acc ${acc?.toFixed(4)}, acc_norm ${acc_norm?.toFixed(4)}`);
}
console.log(`ratio ${(peer.seconds / ((before.seconds + after.seconds) / 2)).toFixed(2)}`);
