/** Runs the built program as its users do. */
import { type ChildProcess, spawn } from "node:child_process";

export type Outcome = { readonly status: number | null; readonly out: string; readonly err: string };

export type Started = {
  readonly child: ChildProcess;
  /** What it printed so far. */
  readonly printed: { out: string; err: string };
  readonly outcome: Promise<Outcome>;
};

export function startMobilellm(args: readonly string[], input?: string): Started {
  const child = spawn(process.execPath, ["dist/cli/main.js", ...args], {
    stdio: [input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
    env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: undefined },
  });
  const printed = { out: "", err: "" };
  child.stdin?.end(input);
  child.stdout?.on("data", (data: Buffer) => (printed.out += data.toString()));
  child.stderr?.on("data", (data: Buffer) => (printed.err += data.toString()));
  const outcome = new Promise<Outcome>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) => resolve({ status, ...printed }));
  });
  return { child, printed, outcome };
}

/** Runs to the end; `interruptAfter` sends Ctrl-C when standard output or error so far matches. */
export function mobilellm(
  args: readonly string[],
  { input, interruptAfter }: { readonly input?: string; readonly interruptAfter?: RegExp } = {},
): Promise<Outcome> {
  const { child, printed, outcome } = startMobilellm(args, input);
  let isInterrupted = false;
  const look = (): void => {
    if (isInterrupted || !interruptAfter?.test(printed.out + printed.err)) return;
    isInterrupted = true;
    child.kill("SIGINT");
  };
  child.stdout?.on("data", look);
  child.stderr?.on("data", look);
  return outcome;
}
