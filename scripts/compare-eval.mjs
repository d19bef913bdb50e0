// @ts-check
/**
 * Compares our evaluation with results that lm-evaluation-harness logged, sample by sample:
 *
 *   node scripts/compare-eval.mjs DATA GOLDEN MODEL [task ...]
 *
 * DATA: a folder of data files; GOLDEN: a folder of <task>[_<n>shot].jsonl, a line for each document with id, target,
 * arguments, resps and metrics, and a summary.json with the scores; MODEL: anything that loadModel takes. Runs in f32.
 * Exits with 1 if a string, a greedy flag, an answer, a sample's metric or a score differs, or a log-likelihood by more
 * than 1e-3.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { loadModel } from "mobilellm";
import { evaluate } from "mobilellm/evaluation";

const [data, golden, source, ...only] = process.argv.slice(2);
if (!data || !golden || !source) {
  console.error("usage: node scripts/compare-eval.mjs DATA GOLDEN MODEL [task ...]");
  process.exit(2);
}

const summary = JSON.parse(await readFile(join(golden, "summary.json"), "utf8"));
const model = await loadModel(source, { dtype: "f32", contextLength: 2048 });
let failures = 0;

for (const file of (await readdir(golden)).filter((name) => name.endsWith(".jsonl")).sort()) {
  const name = file.slice(0, -".jsonl".length);
  if (only.length > 0 && !only.includes(name)) continue;
  const lines = (await readFile(join(golden, file), "utf8")).trimEnd().split("\n");
  const rows = lines.map((line) => JSON.parse(line));
  const [, task = "", shots = "0"] = /^(.*?)(?:_(\d+)shot)?$/.exec(name) ?? [];
  const { tasks } = await evaluate(model, {
    tasks: [task],
    data,
    limit: rows.length,
    fewShot: Number(shots),
    samples: true,
  });
  const result = tasks[task];
  if (!result?.samples) throw new Error(`${task}: no samples`);
  const problems = [];
  let largest = 0;
  for (const [i, row] of rows.entries()) {
    const sample = result.samples[i];
    if (!sample) {
      problems.push(`${row.id}: missing`);
      continue;
    }
    const differs = (what, ours, theirs) => {
      if (JSON.stringify(ours) === JSON.stringify(theirs)) return;
      problems.push(`${row.id}: ${what}\n    ours   ${JSON.stringify(ours)}\n    theirs ${JSON.stringify(theirs)}`);
    };
    differs("id", sample.id, row.id);
    differs("target", sample.target, row.target);
    const isText = row.arguments[0].length === 1;
    const isWritten = typeof row.resps[0] === "string";
    differs(
      "requests",
      sample.requests.map((request) =>
        "generated" in request
          ? request.context
          : isText
            ? request.continuation
            : [request.context, request.continuation],
      ),
      row.arguments.map((argument) => (isText || isWritten ? argument[0] : argument)),
    );
    for (const [j, response] of row.resps.entries()) {
      const request = sample.requests[j];
      if (request === undefined) continue; // already told
      if ("generated" in request) {
        differs("answer", request.generated, response);
        continue;
      }
      const [logprob, isGreedy] = isText ? [response, request.isGreedy] : response;
      const difference = Math.abs(request.logprob - logprob);
      largest = Math.max(largest, difference);
      if (difference > 1e-3) differs("log-likelihood", request.logprob, logprob);
      differs("is greedy", request.isGreedy, isGreedy);
    }
    for (const [metric, value] of Object.entries(row.metrics)) {
      const ours = sample.metrics[metric];
      if (typeof value === "number" && Number.isInteger(value)) differs(metric, ours, value);
      else if (Array.isArray(value)) differs(metric, Array.isArray(ours) ? ours[1] : ours, value[1]);
    }
  }
  for (const [key, value] of Object.entries(summary[name].results)) {
    const metric = key.split(",")[0];
    if (metric === "sample_len") continue;
    const ours = result.metrics[metric]?.value;
    if (ours === undefined || Math.abs(ours - value) > 1e-4 * Math.abs(value))
      problems.push(`${metric}: ours ${ours}, theirs ${value}`);
  }
  failures += problems.length;
  const scores = Object.entries(result.metrics).map(([metric, { value }]) => `${metric} ${value.toFixed(4)}`);
  console.log(
    `${problems.length === 0 ? "equal" : `${problems.length} DIFFERENT`}  ${name}: ${rows.length} documents, log-likelihoods within ${largest.toExponential(1)}, ${result.seconds.toFixed(1)} s (harness ${summary[name].seconds} s), ${scores.join(", ")}`,
  );
  for (const problem of problems.slice(0, 5)) console.log(`  ${problem}`);
}
await model.dispose();
console.log(failures === 0 ? "everything equal" : `${failures} differences`);
process.exitCode = failures === 0 ? 0 : 1;
