/** The dashboard's HTML: everything in one page but its scripts. */

/** Writes the page of a run with this name. */
export function pageHtml(name: string): string {
  const title = name.replaceAll(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title} · mobilellm</title>
<link rel="icon" href="data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><path d='M2 3C5 12 8 13 14 13' fill='none' stroke='%234f6bed' stroke-width='2.5' stroke-linecap='round'/></svg>">
<style>${style}</style>
</head>
<body>
<header>
  <div class="title">
    <h1>${title}</h1>
    <span id="status" data-status="waiting" role="status">waiting</span>
    <div class="controls">
      <label>smoothing <input id="smoothing" type="range" min="0" max="0.98" step="0.02" value="0.8"></label>
      <label><input id="log-steps" type="checkbox"> log steps</label>
    </div>
  </div>
  <p id="about"></p>
  <p id="message" hidden></p>
  <div class="bar"><div id="progress"></div></div>
</header>
<main>
  <section class="figures" aria-label="figures">
    ${figures.map(([id, label]) => `<div class="figure"><span>${label}</span><strong id="${id}-value">–</strong><small id="${id}-note"></small></div>`).join("\n    ")}
  </section>
  <section class="charts" aria-label="curves">
    ${charts.map((id) => `<article id="${id}" class="chart"></article>`).join("\n    ")}
  </section>
  <section id="samples" aria-label="samples" hidden>
    <div class="samples-head">
      <h2>Samples</h2>
      <input id="sample-step" type="range" min="0" max="0" value="0" aria-label="step of the samples">
      <output id="sample-label" for="sample-step"></output>
    </div>
    <div id="sample-list"></div>
  </section>
</main>
<script type="module" src="page.js"></script>
</body>
</html>
`;
}

const figures = [
  ["step", "Step"],
  ["tokens", "Tokens"],
  ["best", "Best held-out"],
  ["speed", "Utilisation"],
  ["time", "Time"],
] as const;

const charts = ["loss", "held-out", "learning-rate", "gradient-norm", "throughput"];

const style = `
:root {
  color-scheme: light dark;
  --page: #f6f6f3; --card: #ffffff; --ink: #1d1f24; --quiet: #696d77; --rule: #e6e6e0;
  --accent: #4f6bed; --second: #d9622b; --good: #23895a; --bad: #c93a3a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #121317; --card: #1b1d23; --ink: #e9eaee; --quiet: #969ba8; --rule: #2b2e37;
    --accent: #8ba0ff; --second: #ff9d66; --good: #5fd39a; --bad: #ff8080;
  }
}
* { box-sizing: border-box; margin: 0; }
body {
  background: var(--page); color: var(--ink); max-width: 1280px; margin: 0 auto; padding: 20px clamp(12px, 3vw, 32px) 48px;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", sans-serif; font-variant-numeric: tabular-nums;
}
.title { display: flex; flex-wrap: wrap; align-items: center; gap: 6px 12px; }
h1 { font-size: 22px; font-weight: 650; letter-spacing: -0.01em; overflow-wrap: anywhere; }
h2 { font-size: 14px; font-weight: 600; }
#about { color: var(--quiet); font-size: 13px; margin-top: 2px; }
#message { color: var(--bad); margin-top: 8px; }
#status {
  --tone: var(--quiet); color: var(--tone); border: 1px solid currentColor; border-radius: 99px;
  font-size: 12px; line-height: 1; padding: 4px 10px;
}
#status[data-status="running"] { --tone: var(--accent); }
#status[data-status="finished"] { --tone: var(--good); }
#status[data-status="failed"] { --tone: var(--bad); }
#status[data-status="running"]::before {
  content: ""; display: inline-block; width: 7px; height: 7px; margin-right: 6px; border-radius: 50%;
  background: currentColor; animation: pulse 1.6s ease-in-out infinite;
}
@keyframes pulse { 50% { opacity: 0.25; } }
.controls { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; color: var(--quiet); }
.controls label { display: flex; align-items: center; gap: 6px; }
input { accent-color: var(--accent); }
input[type="range"] { width: 110px; }
.bar { height: 4px; border-radius: 2px; background: var(--rule); margin: 12px 0 16px; overflow: hidden; }
#progress { height: 100%; width: 0; background: var(--accent); border-radius: 2px; transition: width 0.3s; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 12px; }
.figure, .chart, .sample { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; }
.figure { padding: 12px 16px; display: flex; flex-direction: column; }
.figure span, .figure small { color: var(--quiet); font-size: 12px; }
.figure strong { font-size: 24px; font-weight: 600; line-height: 1.25; letter-spacing: -0.02em; }
.figure small { min-height: 18px; }
.charts { display: grid; grid-template-columns: minmax(0, 1fr); gap: 12px; margin-top: 12px; }
.chart { padding: 12px 14px 8px; min-width: 0; }
@media (min-width: 620px) {
  .charts { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  #loss { grid-column: 1 / -1; }
  .controls { margin-left: auto; }
}
@media (min-width: 1000px) { .charts { grid-template-columns: repeat(4, minmax(0, 1fr)); } }
@media (max-width: 619px) { .figure:last-child:nth-child(odd) { grid-column: 1 / -1; } }
.chart-head { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 12px; min-height: 24px; }
.readout { display: flex; gap: 12px; font-size: 13px; font-weight: 600; }
.value.smooth { color: var(--accent); }
.value.held-out { color: var(--second); }
.chart svg { display: block; width: 100%; height: 180px; touch-action: pan-y; cursor: crosshair; }
#loss svg { height: clamp(240px, 30vw, 320px); }
.grid { stroke: var(--rule); }
.tick-x, .tick-y { fill: var(--quiet); font-size: 11px; }
.tick-x { text-anchor: middle; }
.tick-y { text-anchor: end; }
.line { fill: none; stroke-linejoin: round; stroke-linecap: round; stroke-width: 1.8; }
.line.raw { stroke: var(--accent); stroke-width: 1; opacity: 0.25; }
.line.smooth { stroke: var(--accent); }
.line.held-out { stroke: var(--second); }
line.crosshair { stroke: var(--quiet); stroke-dasharray: 3 3; }
.dot.held-out { fill: var(--second); }
.dot.smooth { fill: var(--accent); }
#samples { margin-top: 24px; }
.samples-head { display: flex; align-items: center; gap: 12px; margin-bottom: 10px; }
.samples-head input { flex: 1; max-width: 320px; }
#sample-label { color: var(--quiet); font-size: 13px; }
#sample-list { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); gap: 12px; }
.sample { padding: 14px 16px; display: flex; flex-direction: column; gap: 8px; }
.sample blockquote { white-space: pre-wrap; overflow-wrap: anywhere; font: 15px/1.6 Charter, Georgia, serif; }
.sample figcaption { color: var(--quiet); font-size: 12px; margin-top: auto; }
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
`;
