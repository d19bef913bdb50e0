/** Runs rows of tokens through a model that is trained: programs for so many rows at once, made larger when more come. */
import { prepareAll, type PreparedProgram, releaseAll } from "../backends/backend.ts";
import type { LoadedModel } from "../model/load.ts";
import { bytesOf, floatsOf } from "../tensor/bytes.ts";
import type { Limits, Tensor } from "../tensor/tensor.ts";
import type { PackedRows } from "./rows.ts";
import { type Parameter, recordRows, type RowPrograms } from "./step-programs.ts";

export type RowRunner = {
  /** What the programs take without growing. */
  readonly limits: Limits;
  /** Makes room for rows of so many tokens. @throws {BackendError} if there is none; what was there goes on. */
  fit(rows: number, length: number): Promise<void>;
  /** The losses of the rows, summed in f64; `accumulate` also adds to the gradients, times `scale`. */
  sumLosses(
    what: "accumulate" | "losses",
    rows: PackedRows,
    scale: number,
    signal: AbortSignal | undefined,
  ): Promise<number>;
  release(): Promise<void>;
};

type Size = { readonly rows: number; readonly length: number };

export async function createRowRunner(
  { config, machine, weights }: LoadedModel,
  parameters: ReadonlyMap<string, Parameter>,
  { recomputes, ...first }: Size & { readonly recomputes: boolean },
): Promise<RowRunner> {
  let current = await prepare(first);

  async function prepare({ rows, length }: Size): Promise<PreparedRows> {
    const limits = { tokens: rows * length, outputs: rows * length, positions: length };
    const recorded = recordRows(config, weights, parameters, limits, recomputes);
    const programs = [recorded.accumulate.program, recorded.losses.program] as const;
    const [accumulate, losses] = await prepareAll(machine, programs);
    return {
      ...recorded,
      accumulate: { ...accumulate, output: recorded.accumulate.output },
      losses: { ...losses, output: recorded.losses.output },
    };
  }

  async function fit(rows: number, length: number): Promise<void> {
    const { tokens, positions } = current.limits;
    if (rows * length <= tokens && length <= positions) return;
    const longest = Math.max(length, positions);
    const before = current;
    current = await prepare({ rows: Math.ceil(Math.max(rows * length, tokens) / longest), length: longest });
    await releaseRows(before);
  }

  return {
    get limits() {
      return current.limits;
    },
    fit,
    async sumLosses(what, { tokens, targets, length }, scale, signal) {
      await fit(tokens.length / length, length);
      const { run, output } = current[what];
      const inputs = [
        { tensor: current.tokens, bytes: bytesOf(tokens) },
        { tensor: current.targets, bytes: bytesOf(targets) },
        ...(what === "accumulate" ? [{ tensor: current.scale, bytes: bytesOf(Float32Array.of(scale)) }] : []),
      ];
      const numbers = { tokens: tokens.length, position: 0, outputs: 0, length };
      const bytes = await run(numbers, { inputs, output: { tensor: output, length: tokens.length * 4 }, signal });
      return floatsOf(bytes).reduce((sum, loss) => sum + loss, 0);
    },
    release: () => releaseRows(current),
  };
}

type Prepared = PreparedProgram & { readonly output: Tensor };
type PreparedRows = Omit<RowPrograms, "accumulate" | "losses"> & Readonly<Record<"accumulate" | "losses", Prepared>>;

function releaseRows({ accumulate, losses }: PreparedRows): Promise<void> {
  return releaseAll([accumulate, losses]);
}
