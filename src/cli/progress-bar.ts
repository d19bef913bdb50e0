/** A bar on stderr while somebody watches: share, speed, time left. Nothing for what is over in a moment. */
import { formatBytes } from "./usage.ts";

export type ProgressBar = {
  show(doneBytes: number, totalBytes: number): void;
  clear(): void;
};

const WIDTH = 24;
const EVERY_MS = 100;

export function createProgressBar(verb: string): ProgressBar {
  const start = performance.now();
  let nextMs = start + 300;
  let isShown = false;
  return {
    show(done, total) {
      const now = performance.now();
      if (!process.stderr.isTTY || now < nextMs) return;
      nextMs = now + EVERY_MS;
      isShown = true;
      process.stderr.write(`\r\u001B[K${formatProgress(verb, done, total, (now - start) / 1000)}`);
    },
    clear() {
      if (isShown) process.stderr.write("\r\u001B[K");
      isShown = false;
    },
  };
}

export function formatProgress(verb: string, done: number, total: number, seconds: number): string {
  const fraction = total === 0 ? 1 : Math.min(1, done / total);
  const filled = Math.round(fraction * WIDTH);
  const bar = "█".repeat(filled) + "░".repeat(WIDTH - filled);
  const left = fraction === 0 ? "" : ` · ${formatSeconds((seconds * (1 - fraction)) / fraction)} left`;
  return `${verb} ${bar} ${Math.floor(100 * fraction)} % · ${formatBytes(done / Math.max(seconds, 1e-3))}/s${left}`;
}

/** `5 s`, `3 min 20 s`, `2 h 5 min`. */
export function formatSeconds(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}
