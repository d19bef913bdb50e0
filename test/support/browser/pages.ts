/**
 * Pages of a real browser with the package loaded. Needs a build, and Chromium at /usr/bin/chromium or where the environment
 * variable CHROMIUM says.
 */
import { existsSync } from "node:fs";
import { chromium, type Page } from "playwright-core";
import { expect } from "vitest";
import { startPageServer } from "./page-server.ts";

const executablePath = process.env["CHROMIUM"] ?? "/usr/bin/chromium";
const args = [
  "--headless",
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export type PageKind = "isolated" | "plain";

export type Pages = {
  /** Opens a page with the package loaded, and fails the test for anything that goes wrong in it. */
  withPage<T>(kind: PageKind, use: (page: Page) => Promise<T>): Promise<T>;
  close(): Promise<void>;
};

/** @param files that pages can fetch. */
export async function openPages(files: Readonly<Record<string, Uint8Array>>): Promise<Pages> {
  if (!existsSync(executablePath)) {
    throw new Error(
      `The browser tests need Chromium, and there is none at ${executablePath}. Install it (Debian: apt-get install chromium), or set the environment variable CHROMIUM to its path.`,
    );
  }
  const server = await startPageServer(files);
  const browser = await chromium.launch({ executablePath, args });
  return {
    async withPage(kind, use) {
      const page = await browser.newPage();
      const errors: string[] = [];
      page.on("pageerror", (error) => errors.push(error.message));
      page.on("requestfailed", (request) => errors.push(`${request.url()}: ${request.failure()?.errorText}`));
      page.on("response", (response) => {
        if (!response.ok()) errors.push(`${response.url()}: ${response.status()}`);
      });
      try {
        await page.goto(`${server.origin}/${kind}/index.html`);
        expect(errors).toEqual([]);
        const result = await use(page);
        expect(errors).toEqual([]);
        return result;
      } finally {
        await page.close();
      }
    },
    async close() {
      await browser.close();
      await server.close();
    },
  };
}
