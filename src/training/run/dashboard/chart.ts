/** A line chart in SVG: step on the x axis, a few lines, a crosshair that all charts of the page share. */
import { formatNumber } from "./format.ts";

/** A line of a chart: a value for each of some steps, which ascend. */
export type Line = {
  readonly label: string;
  /** A class of the style sheet: colour and weight. */
  readonly style: "raw" | "smooth" | "held-out";
  readonly x: readonly number[];
  readonly y: readonly number[];
};

/** A chart on the page. */
export type Chart = {
  draw(lines: readonly Line[], options: { readonly isLog: boolean; readonly lastStep: number }): void;
  /** Shows the crosshair at a step; undefined takes it away. */
  point(step: number | undefined): void;
};

const MARGIN = { top: 8, right: 10, bottom: 22, left: 50 };
const SVG = "http://www.w3.org/2000/svg";

/** What a chart shows, and whom it tells. */
export type ChartOptions = {
  readonly title: string;
  /** Whether the y axis begins at 0, so that small changes look small. */
  readonly isFromZero: boolean;
  /** Called with the step under the pointer, undefined when it leaves. */
  readonly onPoint: (step: number | undefined) => void;
};

/** Makes a chart in `container` that draws itself anew when its size changes. */
export function createChart(container: HTMLElement, { title, isFromZero, onPoint }: ChartOptions): Chart {
  const head = element("div", "chart-head", container);
  element("h2", "", head).textContent = title;
  const readout = element("div", "readout", head);
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("role", "img");
  container.append(svg);
  const pen = createPen(svg);
  let [lines, isLog, lastStep]: [readonly Line[], boolean, number] = [[], false, 1];
  let pointed: number | undefined;
  let scales: { x: Scale; y: Scale } | undefined;

  const toX = (value: number): number => (isLog ? Math.log10(Math.max(value, 1)) : value);

  function render(): void {
    const { width, height } = svg.getBoundingClientRect();
    const drawn = lines.filter(({ x }) => x.length > 0);
    svg.replaceChildren();
    scales = undefined;
    showReadout();
    if (width === 0 || drawn.length === 0) return;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const [low, high] = extent(drawn, isFromZero);
    const firstX = isLog ? Math.min(...drawn.map(({ x }) => x[0]!)) : 0;
    const x = createScale(toX(firstX), toX(Math.max(lastStep, firstX + 1)), MARGIN.left, width - MARGIN.right);
    const y = createScale(low, high, height - MARGIN.bottom, MARGIN.top);
    scales = { x, y };
    for (const value of niceTicks(low, high, height < 160 ? 3 : 5)) {
      pen.line("grid", MARGIN.left, width - MARGIN.right, y(value), y(value));
      pen.label("tick-y", MARGIN.left - 8, y(value) + 4, formatNumber(value));
    }
    for (const value of isLog ? decades(firstX, lastStep) : niceTicks(firstX, lastStep, width < 420 ? 4 : 6)) {
      pen.label("tick-x", x(toX(value)), height - 6, formatNumber(value));
    }
    for (const { style, x: steps, y: values } of drawn) {
      const columnOf = (step: number): number => x(toX(step));
      pen.path(`line ${style}`, tracePath(steps, values, columnOf, y));
      if (style === "held-out") for (const [i, step] of steps.entries()) pen.dot(style, columnOf(step), y(values[i]!));
    }
    svg.setAttribute("aria-label", `${title}: ${readout.textContent}`);
    showCrosshair();
  }

  function showCrosshair(): void {
    for (const old of svg.querySelectorAll(".crosshair")) old.remove();
    showReadout();
    if (scales === undefined || pointed === undefined) return;
    const { x, y } = scales;
    const at = x(toX(pointed));
    pen.line("crosshair", at, at, y.start, y.end);
    for (const { x: steps, y: values, style } of lines) {
      const i = nearest(steps, pointed);
      if (i !== undefined && style !== "raw") pen.dot(`crosshair ${style}`, x(toX(steps[i]!)), y(values[i]!));
    }
  }

  /** The values at the crosshair, or the newest. */
  function showReadout(): void {
    readout.replaceChildren(
      ...lines.flatMap(({ label: name, style, x, y }) => {
        const i = pointed === undefined ? x.length - 1 : nearest(x, pointed);
        if (style === "raw" || i === undefined || i < 0) return [];
        const entry = document.createElement("span");
        entry.className = `value ${style}`;
        entry.textContent = `${name === "" ? "" : `${name} `}${formatNumber(y[i]!)}`;
        return [entry];
      }),
    );
  }

  svg.addEventListener("pointermove", (event) => {
    const steps = lines[0]?.x;
    if (scales === undefined || steps === undefined || steps.length === 0) return;
    const value = scales.x.invert(event.clientX - svg.getBoundingClientRect().left);
    const step = isLog ? 10 ** value : value;
    onPoint(steps[nearest(steps, step)!]);
  });
  svg.addEventListener("pointerleave", () => onPoint(undefined));
  new ResizeObserver(render).observe(svg);

  return {
    draw(newLines, options) {
      [lines, isLog, lastStep] = [newLines, options.isLog, options.lastStep];
      render();
    },
    point(step) {
      pointed = step;
      showCrosshair();
    },
  };
}

/** Draws into an SVG, in its units; `style` is the class of what is drawn. */
function createPen(svg: SVGSVGElement) {
  function draw(name: string, style: string, attributes: Readonly<Record<string, string | number>>): SVGElement {
    const made = document.createElementNS(SVG, name);
    made.setAttribute("class", style);
    for (const [key, value] of Object.entries(attributes)) {
      made.setAttribute(key, typeof value === "number" ? value.toFixed(1) : value);
    }
    svg.append(made);
    return made;
  }
  return {
    line: (style: string, x1: number, x2: number, y1: number, y2: number) => draw("line", style, { x1, x2, y1, y2 }),
    dot: (style: string, cx: number, cy: number) => draw("circle", `dot ${style}`, { cx, cy, r: 2.5 }),
    path: (style: string, d: string) => draw("path", style, { d }),
    label(style: string, x: number, y: number, content: string): void {
      draw("text", style, { x, y }).textContent = content;
    },
  };
}

type Scale = ((value: number) => number) & {
  readonly start: number;
  readonly end: number;
  invert(position: number): number;
};

function createScale(low: number, high: number, start: number, end: number): Scale {
  const slope = (end - start) / (high - low);
  return Object.assign((value: number): number => start + (value - low) * slope, {
    start,
    end,
    invert: (position: number): number => low + (position - start) / slope,
  });
}

/** The range of all lines, with a little air. */
function extent(lines: readonly Line[], isFromZero: boolean): [number, number] {
  let [low, high] = [isFromZero ? 0 : Infinity, -Infinity];
  for (const { y } of lines) {
    for (const value of y) {
      low = Math.min(low, value);
      high = Math.max(high, value);
    }
  }
  const air = high > low ? 0.05 * (high - low) : 0.1 * Math.abs(high) || 1;
  return [low >= 0 ? Math.max(0, low - air) : low - air, high + air];
}

/**
 * Writes an SVG path. Of the many points that fall into one column of pixels the lowest and the highest are drawn, in their order:
 * a spike stays a spike, and a run of a million steps draws as fast as one of a thousand.
 */
export function tracePath(
  x: readonly number[],
  y: readonly number[],
  toX: (step: number) => number,
  toY: (value: number) => number,
): string {
  const kept: number[] = [];
  for (let from = 0; from < x.length;) {
    const column = Math.round(toX(x[from]!));
    let [lowest, highest, to] = [from, from, from + 1];
    for (; to < x.length && Math.round(toX(x[to]!)) === column; to++) {
      if (y[to]! < y[lowest]!) lowest = to;
      if (y[to]! > y[highest]!) highest = to;
    }
    kept.push(...new Set([Math.min(lowest, highest), Math.max(lowest, highest)]));
    from = to;
  }
  return kept.map((i, n) => `${n === 0 ? "M" : "L"}${toX(x[i]!).toFixed(1)},${toY(y[i]!).toFixed(1)}`).join("");
}

/** Chooses round values between two: multiples of 1, 2 or 5 times a power of ten. */
export function niceTicks(low: number, high: number, count: number): number[] {
  const rough = (high - low) / count;
  if (!(rough > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough)!;
  const first = Math.ceil(low / step);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

function decades(low: number, high: number): number[] {
  const from = Math.ceil(Math.log10(Math.max(low, 1)) - 1e-9);
  const to = Math.floor(Math.log10(Math.max(high, 1)) + 1e-9);
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => 10 ** (from + i));
}

/** Finds the index of the value nearest to `wanted` in ascending values; undefined if there is none. */
export function nearest(values: readonly number[], wanted: number): number | undefined {
  let [low, high] = [0, values.length - 1];
  if (high < 0) return undefined;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (values[middle]! < wanted) low = middle;
    else high = middle;
  }
  return Math.abs(values[low]! - wanted) <= Math.abs(values[high]! - wanted) ? low : high;
}

/** Makes an element at the end of `parent`; `style` is its class. */
export function element(name: string, style: string, parent: Element): HTMLElement {
  const made = document.createElement(name);
  if (style !== "") made.className = style;
  parent.append(made);
  return made;
}
