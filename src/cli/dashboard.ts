/** `mobilellm dashboard`: the curves of a run in a browser, whether it goes on in another process or is over. */
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { startDashboard } from "../entries/node/training.ts";
import { Interrupted, untilInterrupted } from "./interrupt.ts";
import { UsageError } from "./usage.ts";

export function createDashboardCommand(): Command {
  return new Command("dashboard")
    .description("a run's curves and samples in the browser, updating while it trains")
    .argument("<run>", "the folder of a run")
    .option("--port <n>", "on 127.0.0.1 (default: any that is free)", parsePort, 0)
    .addHelpText("after", "\nExample:\n  $ mobilellm dashboard runs/stories")
    .action((run: string, { port }: { port: number }) =>
      untilInterrupted((signal) => showDashboard(run, port, signal)),
    );
}

async function showDashboard(run: string, port: number, signal: AbortSignal): Promise<void> {
  const isRun = await stat(join(run, "recipe.json")).then(
    (found) => found.isFile(),
    () => false,
  );
  if (!isRun) throw new UsageError(`dashboard: ${run} is no run's folder: it has no recipe.json.`);
  const dashboard = await startDashboard({ run, port });
  console.log(`${dashboard.url} shows ${run}. Ctrl-C ends it.`);
  await new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve()));
  await dashboard.close();
  throw new Interrupted("interrupted");
}

export function parsePort(text: string): number {
  const port = Number(text);
  if (text.trim() === "" || !Number.isInteger(port) || port < 0 || port > 65_535) {
    throw new InvalidArgumentError("Expected a port from 0 (any) to 65535.");
  }
  return port;
}
