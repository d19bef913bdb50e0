/** The dashboard's page: follows the server's events and draws what they say. */
import type { MetricsRecord, StepRecord } from "../metrics.ts";
import { type Chart, createChart, element, type Line } from "./chart.ts";
import { formatDuration, formatNumber } from "./format.ts";
import { addRecord, createRunData, smooth } from "./run-data.ts";

/** A run that says nothing for as long is taken for stopped. */
const SILENCE_MS = 120_000;

let data = createRunData();
let isConnected = false;
let isDrawing = false;

function find<E extends HTMLElement>(id: string, type: new () => E): E {
  const found = document.querySelector(`#${id}`);
  if (found instanceof type) return found;
  throw new Error(`internal: the page has no ${type.name} #${id}`);
}
const byId = (id: string): HTMLElement => find(id, HTMLElement);
const smoothing = find("smoothing", HTMLInputElement);
const logSteps = find("log-steps", HTMLInputElement);
const sampleStep = find("sample-step", HTMLInputElement);

const charts: Chart[] = [];
const pointAll = (step: number | undefined): void => charts.forEach((chart) => chart.point(step));
function addChart(id: string, title: string, isFromZero = false): Chart {
  const chart = createChart(byId(id), { title, isFromZero, onPoint: pointAll });
  charts.push(chart);
  return chart;
}
const lossChart = addChart("loss", "Loss");
const heldOutChart = addChart("held-out", "Held-out bits/byte");
const rateChart = addChart("learning-rate", "Learning rate", true);
const normChart = addChart("gradient-norm", "Gradient norm", true);
const speedChart = addChart("throughput", "Tokens per second", true);

function draw(): void {
  isDrawing = false;
  const { steps, heldOut } = data;
  const x = steps.map(({ step }) => step);
  const options = { isLog: logSteps.checked, lastStep: Math.max(x.at(-1) ?? 0, heldOut.at(-1)?.step ?? 0) };
  const values = (key: keyof StepRecord): number[] => steps.map((record) => Number(record[key]));
  const smoothed = (key: keyof StepRecord, label = ""): Line[] => {
    const y = values(key);
    return [
      { label: "", style: "raw", x, y },
      { label, style: "smooth", x, y: smooth(y, Number(smoothing.value)) },
    ];
  };
  const heldOutSteps = heldOut.map(({ step }) => step);
  const heldOutLoss = heldOut.map(({ loss }) => loss);
  lossChart.draw(
    [...smoothed("loss", "train"), { label: "held-out", style: "held-out", x: heldOutSteps, y: heldOutLoss }],
    options,
  );
  heldOutChart.draw(
    [{ label: "", style: "held-out", x: heldOutSteps, y: heldOut.map(({ bitsPerByte }) => bitsPerByte) }],
    options,
  );
  rateChart.draw([{ label: "", style: "smooth", x, y: values("learningRate") }], options);
  normChart.draw(smoothed("gradientNorm"), options);
  speedChart.draw(smoothed("tokensPerSecond"), options);
  showFigures();
  showSamples();
  showStatus();
}

function requestDraw(): void {
  if (isDrawing) return;
  isDrawing = true;
  requestAnimationFrame(draw);
}

function showFigures(): void {
  const { start, steps, heldOut } = data;
  const last = steps.at(-1);
  const best = heldOut.findLast(({ isBest }) => isBest);
  const set = (id: string, value: string, note: string): void => {
    byId(`${id}-value`).textContent = value;
    byId(`${id}-note`).textContent = note;
  };
  const step = Math.max(last?.step ?? 0, start?.step ?? 0);
  const total = start?.steps ?? 0;
  const isOver = data.end !== undefined;
  set("step", step.toLocaleString("en"), total === 0 ? "" : `of ${total.toLocaleString("en")}`);
  set("tokens", last ? formatNumber(last.tokens) : "–", last && last.epoch > 0 ? `epoch ${last.epoch + 1}` : "");
  set(
    "best",
    best ? best.bitsPerByte.toFixed(3) : "–",
    best ? `bits per byte, step ${best.step.toLocaleString("en")}` : "",
  );
  set(
    "speed",
    last ? `${(100 * last.utilisation).toFixed(0)} %` : "–",
    last ? `${formatNumber(last.flopsPerSecond)} of ${formatNumber(last.peakFlopsPerSecond, "FLOP/s")}` : "",
  );
  set(
    "time",
    last ? formatDuration(isOver ? last.elapsedMs : last.remainingMs) : "–",
    last ? (isOver ? "in all" : `left, ${formatDuration(last.elapsedMs)} so far`) : "",
  );
  byId("progress").style.width = `${total === 0 ? 0 : (100 * step) / total}%`;
  if (start === undefined) return;
  byId("about").textContent = [
    start.shape,
    `${formatNumber(start.parameters)} parameters`,
    `${formatNumber(start.tokensPerStep)} tokens a step`,
    start.device,
    formatNumber(start.memory.total, "B"),
  ].join(" · ");
}

function showStatus(): void {
  const { start, end, steps } = data;
  const lastTime = Math.max(start?.time ?? 0, steps.at(-1)?.time ?? 0);
  const isSilent = start !== undefined && Date.now() - lastTime > SILENCE_MS;
  const status =
    end?.reason ??
    (start === undefined ? "waiting" : isConnected && !isSilent ? "running" : isConnected ? "silent" : "disconnected");
  const pill = byId("status");
  pill.textContent = status;
  pill.dataset["status"] = status;
  const message = byId("message");
  message.textContent = end?.message ?? "";
  message.hidden = end?.message === undefined;
}

/** Whether the newest samples are shown as they come, until somebody goes back. */
let followsSamples = true;
let shownSamples = "";

function showSamples(): void {
  const steps = [...new Set(data.samples.map(({ step }) => step))];
  byId("samples").hidden = steps.length === 0;
  sampleStep.max = String(steps.length - 1);
  sampleStep.disabled = steps.length === 1;
  if (followsSamples) sampleStep.value = sampleStep.max;
  const step = steps[Number(sampleStep.value)];
  if (step === undefined) return;
  const samples = data.samples.filter((sample) => sample.step === step);
  byId("sample-label").textContent = `step ${step.toLocaleString("en")}`;
  // What stands there already is left alone: somebody may be marking it.
  const key = JSON.stringify(samples);
  if (key === shownSamples) return;
  shownSamples = key;
  const list = byId("sample-list");
  list.replaceChildren();
  for (const { prompt, temperature, text } of samples) {
    const card = element("figure", "sample", list);
    const words = element("blockquote", "", card);
    element("b", "", words).textContent = prompt;
    words.append(text);
    element("figcaption", "", card).textContent = temperature === 0 ? "greedy" : `temperature ${temperature}`;
  }
}

sampleStep.addEventListener("input", () => {
  followsSamples = sampleStep.value === sampleStep.max;
  showSamples();
});
for (const control of [smoothing, logSteps]) control.addEventListener("input", requestDraw);

const events = new EventSource("events");
events.addEventListener("open", () => {
  isConnected = true;
  requestDraw();
});
events.addEventListener("error", () => {
  isConnected = false;
  requestDraw();
});
events.addEventListener("reset", () => {
  data = createRunData();
  requestDraw();
});
events.addEventListener("message", ({ data: text }: MessageEvent<string>) => {
  for (const record of JSON.parse(text) as MetricsRecord[]) addRecord(data, record);
  requestDraw();
});
setInterval(showStatus, 5000);
