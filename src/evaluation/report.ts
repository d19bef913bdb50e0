/** The results as one page that needs nothing else: tables, and charts beside the paper's baselines. */
import { type Baseline, baselinesFor } from "./baselines.ts";
import type { Evaluation, TaskResult } from "./evaluate.ts";
import type { Metric } from "./statistics.ts";
import { commonSense } from "./task-list.ts";

/**
 * Writes the report as HTML.
 * @param evaluations of one model in one dtype or in several, which are then compared; or of several models.
 */
export function renderReport(evaluations: readonly Evaluation[]): string {
  const [first, ...others] = evaluations;
  if (first === undefined) throw new RangeError("renderReport: at least one evaluation was required, got none.");
  const { model } = first;
  const baselines = baselinesFor(model.parameters);
  const title = `${model.name}: evaluation`;
  const parts = [
    `<h1>${escape(model.name)}</h1>`,
    `<p class="facts">${escape(
      `${(model.parameters / 1e6).toFixed(1)} M parameters · ${evaluations.map(({ model }) => model.dtype).join(", ")} · ${model.description} · context ${model.contextLength}`,
    )}</p>`,
    besideBaselines(first, baselines),
    others.length > 0 ? sideBySide(first, evaluations) : "",
    ...evaluations.map(allMetrics),
    leftOut(first),
    `<footer>Scores as EleutherAI's lm-evaluation-harness defines them; <i>mobilellm_score</i> compares choices by LLaMA's rule (per character; BoolQ and OpenBookQA over P(choice | “Answer:”)). Bars: ± 1.96 standard errors. Baselines: MobileLLM (arXiv:2402.14905), tables 3, 4 and 8, measured by its authors' own pipeline.</footer>`,
  ];
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escape(title)}</title>
<style>${style}</style>
<main>
${parts.filter((part) => part !== "").join("\n")}
</main>
</html>
`;
}

/** A row of a chart, in percent. */
type Bar = {
  readonly label: string;
  readonly value: number;
  readonly error: number;
  readonly kind: "ours" | "mobilellm" | "other";
};

function besideBaselines(evaluation: Evaluation, baselines: readonly Baseline[]): string {
  const panels = Object.entries(evaluation.tasks).flatMap(([task, result]) => {
    const beside = baselines.flatMap(({ model, scores, isMobileLLM }) =>
      scores[task] === undefined ? [] : [theirs(model, scores[task], isMobileLLM)],
    );
    const found = headline(result);
    if (beside.length === 0 || found === undefined) return [];
    return [panel(task, [ours(evaluation, found.metric.value, found.metric.stderr ?? 0), ...beside])];
  });
  if (panels.length === 0) return "";
  const all = commonSense.flatMap((task) => headline(evaluation.tasks[task])?.metric ?? []);
  if (all.length === commonSense.length) {
    const value = mean(all.map((metric) => metric.value));
    const stderr = Math.sqrt(mean(all.map((metric) => (metric.stderr ?? 0) ** 2)) / all.length);
    const average = baselines.map(({ model, scores, isMobileLLM }) =>
      theirs(model, mean(commonSense.flatMap((task) => scores[task] ?? [])), isMobileLLM),
    );
    panels.push(panel("average of the eight", [ours(evaluation, value, stderr), ...average]));
  }
  const sizes = baselines.map(({ parameters }) => parameters);
  const range = `${Math.min(...sizes)} M to ${Math.max(...sizes)} M`;
  return `<h2>Beside the paper's models of ${range}, the nearest in size</h2>\n<div class="panels">\n${panels.join("\n")}\n</div>`;
}

function ours({ model }: Evaluation, value: number, stderr: number): Bar {
  return { label: `${model.name} ${model.dtype}`, value: 100 * value, error: 196 * stderr, kind: "ours" };
}

function theirs(label: string, value: number, isMobileLLM: boolean): Bar {
  return { label, value, error: 0, kind: isMobileLLM ? "mobilellm" : "other" };
}

/** What a task is compared by: the paper's rule, else what the task has first. */
function headline(result: TaskResult | undefined): { readonly name: string; readonly metric: Metric } | undefined {
  const metrics = Object.entries(result?.metrics ?? {});
  const [name, metric] = metrics.find(([name]) => name === PAPER_RULE) ?? metrics[0] ?? [];
  return name === undefined || metric === undefined ? undefined : { name, metric };
}

const PAPER_RULE = "mobilellm_score";

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

const LABEL = 168;
const PLOT = 190;
const ROW = 17;

/** Dots on a scale of their own, the largest on top. */
function panel(title: string, bars: readonly Bar[]): string {
  const low = Math.floor(Math.min(...bars.map(({ value, error }) => value - error)) - 1);
  const high = Math.ceil(Math.max(...bars.map(({ value, error }) => value + error)) + 1);
  const x = (value: number): string => (LABEL + ((value - low) / (high - low)) * PLOT).toFixed(1);
  const rows = bars.toSorted((a, b) => b.value - a.value);
  const height = rows.length * ROW + 26;
  const ticks = niceTicks(low, high);
  const marks = rows.map(({ label, value, error, kind }, i) => {
    const y = i * ROW + 10;
    const bar = error > 0 ? `<path d="M${x(value - error)} ${y}H${x(value + error)}"/>` : "";
    const shown = label.length > 26 ? `${label.slice(0, 25)}…` : label;
    return `<g class="${kind}"><title>${escape(`${label}: ${value.toFixed(1)}${error > 0 ? ` ± ${error.toFixed(1)}` : ""}`)}</title><text x="${LABEL - 10}" y="${y + 4}" text-anchor="end">${escape(shown)}</text>${bar}<circle cx="${x(value)}" cy="${y}" r="${kind === "ours" ? 4.5 : 3.5}"/><text class="value" x="${LABEL + PLOT + 10}" y="${y + 4}">${value.toFixed(1)}</text></g>`;
  });
  const grid = ticks.map(
    (tick) =>
      `<path class="grid" d="M${x(tick)} 2V${height - 22}"/><text class="tick" x="${x(tick)}" y="${height - 8}" text-anchor="middle">${tick}</text>`,
  );
  return `<figure><figcaption>${escape(title)}, %</figcaption><svg viewBox="0 0 ${LABEL + PLOT + 46} ${height}" role="img" aria-label="${escape(title)}">${grid.join("")}${marks.join("")}</svg></figure>`;
}

function niceTicks(low: number, high: number): number[] {
  const step = [1, 2, 5, 10, 20, 50].find((candidate) => (high - low) / candidate <= 5) ?? 100;
  const first = Math.ceil(low / step) * step;
  return Array.from({ length: Math.floor((high - first) / step) + 1 }, (_, i) => first + i * step);
}

/** @param first what the others are compared with. */
function sideBySide(first: Evaluation, evaluations: readonly Evaluation[]): string {
  const nameOf = ({ model }: Evaluation): string => (model.name === first.model.name ? model.dtype : model.name);
  const names = evaluations.map(nameOf);
  const rows: string[] = [];
  const panels: string[] = [];
  for (const [task, result] of Object.entries(first.tasks)) {
    const found = headline(result);
    if (found === undefined) continue;
    const { name, metric: reference } = found;
    const scale = isPercent(name) ? 100 : 1;
    const metrics = evaluations.map(({ tasks }) => tasks[task]?.metrics[name]);
    const cells = metrics.map((metric, i) => {
      if (metric === undefined) return "<td></td>";
      const drop = scale * (metric.value - reference.value);
      const shown = i === 0 ? "" : ` <small>${drop >= 0 ? "+" : "−"}${Math.abs(drop).toFixed(2)}</small>`;
      return `<td>${(scale * metric.value).toFixed(2)}${shown}</td>`;
    });
    rows.push(`<tr><th>${escape(task)}</th><td class="name">${name}</td>${cells.join("")}</tr>`);
    const given = metrics.filter((metric) => metric !== undefined);
    if (name !== PAPER_RULE || given.length < metrics.length) continue;
    const bars = given.map(({ value, stderr = 0 }, i): Bar => ({
      label: names[i]!,
      value: 100 * value,
      error: 196 * stderr,
      kind: i === 0 ? "ours" : "mobilellm",
    }));
    panels.push(panel(task, bars));
  }
  return `<h2>${escape(names.join(" · "))}</h2>
<table><tr><th>task</th><th class="name">score</th>${names.map((name) => `<th>${escape(name)}</th>`).join("")}</tr>
${rows.join("\n")}</table>
<div class="panels">\n${panels.join("\n")}\n</div>`;
}

function allMetrics({ model, tasks }: Evaluation): string {
  const rows = Object.entries(tasks).flatMap(([task, { documents, fewShot, seconds, metrics }]) =>
    Object.entries(metrics).map(([name, { value, stderr }], i) => {
      const scale = isPercent(name) ? 100 : 1;
      const digits = isPercent(name) ? 2 : 4;
      const head =
        i === 0
          ? `<th>${escape(task)}</th><td>${fewShot}</td><td>${documents}</td><td>${seconds.toFixed(1)}</td>`
          : "<th></th><td></td><td></td><td></td>";
      const error = stderr === undefined ? "" : `± ${(scale * stderr).toFixed(digits)}`;
      return `<tr${i === 0 ? ' class="first"' : ""}>${head}<td class="name">${escape(name)}</td><td>${(scale * value).toFixed(digits)}</td><td>${error}</td></tr>`;
    }),
  );
  return `<h2>All scores, ${escape(model.dtype)}</h2>
<table><tr><th>task</th><th>shots</th><th>documents</th><th>seconds</th><th class="name">metric</th><th>value</th><th>error</th></tr>
${rows.join("\n")}</table>`;
}

function leftOut({ missing }: Evaluation): string {
  const reasons = Object.values(missing).map((reason) => `<li>${escape(reason)}</li>`);
  return reasons.length === 0 ? "" : `<h2>Left out</h2>\n<ul>${reasons.join("\n")}</ul>`;
}

/** Accuracies; perplexities and bits stay as they are. */
const isPercent = (metric: string): boolean => !/perplexity|bits/.test(metric);

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}

const style = `
:root { color-scheme: light dark; --ink: #1c2430; --soft: #6b7685; --line: #d9dee5; --paper: #fff; --ours: #d1495b; --mobilellm: #2f6690; --other: #9aa5b1; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ecf1; --soft: #9aa5b1; --line: #323b47; --paper: #14181d; --ours: #ff7385; --mobilellm: #7db7e0; --other: #6b7685; } }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { margin: 0; font-size: 26px; } h2 { margin: 40px 0 12px; font-size: 18px; }
.facts, footer, small { color: var(--soft); } footer { margin-top: 48px; font-size: 13px; max-width: 80ch; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 20px 28px; }
figure { margin: 0; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; display: block; }
svg text { font-size: 11px; fill: var(--soft); } svg .value { font-variant-numeric: tabular-nums; }
svg .tick { font-size: 10px; } svg .grid { stroke: var(--line); }
svg .other circle { fill: var(--other); } svg .mobilellm circle { fill: var(--mobilellm); } svg .ours circle { fill: var(--ours); }
svg .mobilellm text { fill: var(--mobilellm); } svg .ours text { fill: var(--ours); font-weight: 600; }
svg g path { stroke: currentColor; stroke-width: 2; } svg .ours { color: var(--ours); } svg .mobilellm { color: var(--mobilellm); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 0 0 20px; }
th, td { padding: 3px 14px 3px 0; text-align: right; font-weight: 400; } th:first-child, .name { text-align: left; }
th:first-child { font-weight: 600; } tr:first-child th { color: var(--soft); font-weight: 400; border-bottom: 1px solid var(--line); } tr.first > * { border-top: 1px solid var(--line); }
`;
