/**
 * The dashboard in a real browser: curves grow while records come in, samples appear, a resumed run starts anew, light and dark, wide and
 * narrow. Needs a build, and Chromium at /usr/bin/chromium or where the environment variable CHROMIUM says.
 */
import { appendFile, mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { MetricsRecord } from "../src/training/run/metrics.ts";

type Dashboard = { readonly url: string; close(): Promise<void> };
type DashboardModule = { readonly startDashboard: (folder: string, port: number) => Promise<Dashboard> };
const built = "../dist/training/run/dashboard/node-dashboard.js"; // with the page's modules beside it

let folder: string;
let dashboard: Dashboard;
let browser: Browser;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "mobilellm-dashboard-"));
  const { startDashboard } = (await import(built)) as DashboardModule;
  dashboard = await startDashboard(folder, 0);
  browser = await chromium.launch({
    executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"],
  });
});

afterAll(async () => {
  await browser?.close();
  await dashboard?.close();
  await rm(folder, { recursive: true, force: true });
});

const start: MetricsRecord = {
  kind: "start",
  step: 0,
  steps: 200,
  time: Date.now(),
  name: "x",
  parameters: 5_509_824,
  shape: "12 layers × 192",
  device: "wasm",
  memory: {
    weights: 2e7,
    gradients: 2e7,
    moments: 4e7,
    activations: 2e7,
    constants: 0,
    cache: 0,
    program: 0,
    total: 1e8,
  },
  tokensPerStep: 8192,
};

function step(n: number): MetricsRecord {
  const numbers = { loss: 8 / (1 + n / 50), learningRate: 0.002, gradientNorm: 1, tokens: 8192 * n, epoch: 0 };
  const speed = { tokensPerSecond: 13_000, flopsPerSecond: 4.5e10, peakFlopsPerSecond: 9e10, utilisation: 0.5 };
  return {
    kind: "step",
    step: n,
    time: Date.now(),
    ...numbers,
    ...speed,
    elapsedMs: 600 * n,
    remainingMs: 600 * (200 - n),
  };
}

function heldOut(n: number): MetricsRecord {
  return { kind: "heldOut", step: n, time: Date.now(), loss: 8, bitsPerByte: 3.25, tokens: 100, isBest: true };
}

function sample(n: number, text: string): MetricsRecord {
  return { kind: "sample", step: n, time: Date.now(), prompt: "Once", temperature: 0, text };
}

const lines = (records: readonly MetricsRecord[]): string =>
  records.map((record) => `${JSON.stringify(record)}\n`).join("");
const write = (...records: MetricsRecord[]): Promise<void> => writeFile(join(folder, "metrics.jsonl"), lines(records));
const append = (...records: MetricsRecord[]): Promise<void> =>
  appendFile(join(folder, "metrics.jsonl"), lines(records));
const steps = (from: number, to: number): MetricsRecord[] =>
  Array.from({ length: to - from + 1 }, (_, i) => step(from + i));

/** Opens the page and fails the test for anything that goes wrong in it. */
async function withPage(
  use: (page: Page) => Promise<void>,
  settings: Parameters<Browser["newPage"]>[0] = {},
): Promise<void> {
  const page = await browser.newPage(settings);
  const errors: string[] = [];
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("console", (message) => errors.push(`${message.type()}: ${message.text()}`));
  page.on("requestfailed", (failed) => errors.push(failed.url()));
  try {
    await page.goto(dashboard.url);
    await use(page);
    expect(errors.filter((error) => !error.endsWith("/events"))).toEqual([]);
  } finally {
    await page.close();
  }
}

/** Points of a chart's line. */
function pointsOf(page: Page, chart: string, line = "smooth"): Promise<number> {
  return page
    .locator(`#${chart} path.line.${line}`)
    .getAttribute("d", { timeout: 1000 })
    .then(
      (d) => d!.split(/[ML]/).length - 1,
      () => 0,
    );
}

describe("the dashboard", () => {
  test("waits for a run that has not begun, and shows it once it does", async () => {
    await rm(join(folder, "metrics.jsonl"), { force: true });
    await withPage(async (page) => {
      await expect.poll(() => page.textContent("#status")).toBe("waiting");
      await write(start, step(1));
      await expect.poll(() => page.textContent("#status")).toBe("running");
      expect(await page.textContent("#about")).toContain("5.51M parameters · 8.19k tokens a step · wasm · 100 MB");
    });
  });

  test("draws every curve on while records come in", async () => {
    await write(start, heldOut(0), ...steps(1, 20));
    await withPage(async (page) => {
      const charts = ["loss", "learning-rate", "gradient-norm", "throughput"];
      for (const chart of charts) await expect.poll(() => pointsOf(page, chart)).toBe(20);
      await append(...steps(21, 50), heldOut(50));
      for (const chart of charts) await expect.poll(() => pointsOf(page, chart)).toBe(50);
      await expect.poll(() => pointsOf(page, "held-out", "held-out")).toBe(2);
      expect(await page.textContent("#step-value")).toBe("50");
      expect(await page.textContent("#step-note")).toBe("of 200");
      expect(await page.textContent("#best-value")).toBe("3.250");
      expect(await page.textContent("#speed-note")).toBe("45G of 90 GFLOP/s");
    });
  });

  test("waits for the rest of a line", async () => {
    await write(start, ...steps(1, 3));
    await withPage(async (page) => {
      const line = lines([step(4)]);
      await appendFile(join(folder, "metrics.jsonl"), line.slice(0, 30));
      await expect.poll(() => pointsOf(page, "loss")).toBe(3);
      await appendFile(join(folder, "metrics.jsonl"), line.slice(30));
      await expect.poll(() => pointsOf(page, "loss")).toBe(4);
    });
  });

  test("shows samples as they come, and keeps to an earlier one that was chosen", async () => {
    await write(start, step(1), sample(1, " there was <b>one</b>"));
    await withPage(async (page) => {
      await expect.poll(() => page.textContent(".sample blockquote")).toBe("Once there was <b>one</b>");
      await append(sample(2, " there were two"));
      await expect.poll(() => page.textContent("#sample-label")).toBe("step 2");
      await page.fill("#sample-step", "0");
      await append(sample(3, " there were three"), step(4));
      await expect.poll(() => page.textContent("#step-value")).toBe("4");
      expect(await page.textContent("#sample-label")).toBe("step 1");
    });
  });

  test("follows a run that is resumed from an earlier step", async () => {
    await write(start, ...steps(1, 30));
    await withPage(async (page) => {
      await expect.poll(() => pointsOf(page, "loss")).toBe(30);
      await truncate(join(folder, "metrics.jsonl"), Buffer.byteLength(lines([start, ...steps(1, 10)])));
      await expect.poll(() => pointsOf(page, "loss")).toBe(10);
      await append(...steps(11, 12));
      await expect.poll(() => pointsOf(page, "loss")).toBe(12);
    });
  });

  test("says how a run ended", async () => {
    const message = "step 3: the loss exploded";
    await write(start, ...steps(1, 3), { kind: "end", step: 3, time: Date.now(), reason: "failed", message });
    await withPage(async (page) => {
      await expect.poll(() => page.textContent("#status")).toBe("failed");
      expect(await page.textContent("#message")).toBe(message);
    });
  });

  test("shows all charts' values at the step under the pointer", async () => {
    await write(start, ...steps(1, 200));
    await withPage(async (page) => {
      await expect.poll(() => pointsOf(page, "loss")).toBe(200);
      await page.hover("#loss svg", { position: { x: 300, y: 100 } });
      for (const chart of ["loss", "learning-rate", "gradient-norm", "throughput"]) {
        expect(await page.locator(`#${chart} line.crosshair`).count()).toBe(1);
      }
      const shown = Number((await page.textContent("#loss .readout .smooth"))!.replace("train ", ""));
      expect(shown).toBeGreaterThan(8 / (1 + 200 / 50));
    });
  });

  test.each([
    ["phone", 360],
    ["tablet", 820],
    ["desktop", 1440],
  ])("fits a %s's width in light and dark", async (_, width) => {
    await write(start, heldOut(0), ...steps(1, 20), sample(20, " word".repeat(50)));
    const backgrounds: string[] = [];
    for (const colorScheme of ["light", "dark"] as const) {
      await withPage(
        async (page) => {
          await expect.poll(() => pointsOf(page, "loss")).toBe(20);
          expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(width);
          const narrowest = await page.evaluate(() =>
            Math.min(...[...document.querySelectorAll(".chart svg")].map((svg) => svg.getBoundingClientRect().width)),
          );
          expect(narrowest).toBeGreaterThan(200);
          backgrounds.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
        },
        { viewport: { width, height: 800 }, colorScheme },
      );
    }
    expect(new Set(backgrounds).size).toBe(2);
  });

  test("is for this machine alone: no other host's name, no other file", async () => {
    const status = (path: string, host?: string): Promise<number | undefined> =>
      new Promise((resolve, reject) => {
        request(new URL(path, dashboard.url), { headers: host === undefined ? {} : { host } }, (response) => {
          response.resume();
          resolve(response.statusCode);
        })
          .on("error", reject)
          .end();
      });
    expect(await status("/")).toBe(200);
    expect(await status("/", "evil.example")).toBe(403);
    expect(await status("/metrics.jsonl")).toBe(404);
    expect(await status("/..%2fnode-dashboard.js")).toBe(404);
  });

  test("says when its port is taken", async () => {
    const { startDashboard } = (await import(built)) as DashboardModule;
    const { port } = new URL(dashboard.url);
    await expect(startDashboard(folder, Number(port))).rejects.toThrow(
      `dashboard: port ${port} was required, but it is taken.`,
    );
  });
});
