// @ts-check
/**
 * Draws docs/run.svg, the README's picture: runs the built program and sets what a terminal would show.
 *   node scripts/picture.mjs model.gguf
 */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { fileURLToPath } from "node:url";

const COLUMNS = 100;
const LINE_HEIGHT = 20; // pixels, as all below
const COLUMN_WIDTH = 8.4;
const MARGIN = 20;
const BAR = 34;

const model = process.argv[2];
if (model === undefined) throw new Error("picture: a model is required: node scripts/picture.mjs model.gguf");
const program = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));

/** @typedef {{ text: string, isDim: boolean }} Span */
/** @type {Span[][]} */
const lines = [];

/** Wraps at spaces as if in one line; every span keeps its shade. @param {Span[]} spans */
function addParagraph(spans) {
  /** @type {Span[]} */
  let line = [];
  let used = 0;
  for (const { text, isDim } of spans) {
    for (const word of text.match(/\s*\S+|\s+$/g) ?? []) {
      if (used + word.length > COLUMNS) {
        lines.push(line);
        [line, used] = [[], 0];
      }
      const shown = used === 0 ? word.trimStart() : word;
      line.push({ text: shown, isDim });
      used += shown.length;
    }
  }
  lines.push(line);
}

/** @param {string[]} args */
function run(...args) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args], {
    cwd: dirname(/** @type {string} */ (model)),
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1" },
  });
  if (status !== 0) throw new Error(`picture: mobilellm ${args.join(" ")} ended with ${status}: ${stderr}`);
  const command = args.map((arg) => (arg.includes(" ") ? `"${arg}"` : arg)).join(" ");
  addParagraph([
    { text: "$ ", isDim: true },
    { text: `mobilellm ${command}`, isDim: false },
  ]);
  return { stdout: stdout.trimEnd(), stderr: stderr.trimEnd() };
}

for (const line of run("design", "--parameters", "125M").stdout.split("\n")) {
  lines.push([{ text: line, isDim: false }]);
}
lines.push([]);
const prompt = "Once upon a time";
const told = run("generate", prompt, "-m", basename(model), "--temperature", "0", "-n", "48");
for (const [index, paragraph] of told.stdout.split("\n").entries()) {
  addParagraph([...(index === 0 ? [{ text: prompt, isDim: true }] : []), { text: paragraph, isDim: false }]);
}
addParagraph([{ text: told.stderr, isDim: true }]);

/** @param {string} text */
const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const width = Math.ceil(COLUMNS * COLUMN_WIDTH) + 2 * MARGIN;
const height = BAR + lines.length * LINE_HEIGHT + MARGIN;
const texts = lines.flatMap((line, row) => {
  const columns = line.reduce((sum, { text }) => sum + text.length, 0);
  if (columns === 0) return [];
  const spans = line.map(({ text, isDim }) => (isDim ? `<tspan fill="#8b949e">${escape(text)}</tspan>` : escape(text)));
  const y = BAR + (row + 0.7) * LINE_HEIGHT;
  return `<text x="${MARGIN}" y="${y}" textLength="${(columns * COLUMN_WIDTH).toFixed(1)}">${spans.join("")}</text>`;
});
const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">
<style>text { font: 14px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre; fill: #e6edf3 }</style>
<rect width="${width}" height="${height}" rx="8" fill="#0d1117"/>
${["#ff5f56", "#ffbd2e", "#27c93f"].map((fill, i) => `<circle cx="${MARGIN + i * 18}" cy="17" r="5" fill="${fill}"/>`).join("")}
${texts.join("\n")}
</svg>
`;
writeFileSync(new URL("../docs/run.svg", import.meta.url), svg);
