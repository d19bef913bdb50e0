/**
 * What the benches beside the kernels share: an operation is checked against its oracle, then timed on one thread. Each line
 * says the median of a replay, the bytes that its operands have and the floating-point operations that it takes, both a second,
 * and how many times as fast it is as the oracle.
 */
import { it } from "vitest";
import { readsOf, writesOf } from "../../src/kernels/operation.ts";
import { flopsOf } from "../../src/program/program.ts";
import { packedBytes } from "../../src/tensor/dtype.ts";
import { rowsIn, type RunNumbers, type Tensor } from "../../src/tensor/tensor.ts";
import { expectClose, type KernelCase, openCase, reference, TOLERANCE, wasm } from "./kernel-agreement.ts";

/** Replays are timed for about so long. */
const BUDGET_MS = 400;
const LEAST_ROUNDS = 5;

/** @param title shape and dtype, for people. */
export function benchKernel(title: string, test: KernelCase, tolerance: number = TOLERANCE): void {
  it(title, async () => {
    const [oracle, kernel] = [await openCase(reference, test), await openCase(wasm, test)];
    for (const each of [oracle, kernel]) await each.replay();
    expectClose(await kernel.read(), await oracle.read(), tolerance, title);
    const slow = await medianMs(() => oracle.replay(), 1);
    const fast = await medianMs(() => kernel.replay(), LEAST_ROUNDS);
    const { program, numbers } = kernel;
    const bytes = program.operations
      .flatMap((operation) => [...readsOf(operation), ...writesOf(operation)])
      .reduce((sum, tensor) => sum + bytesIn(tensor, numbers), 0);
    const flops = flopsOf(program, numbers);
    const rate = (count: number, unit: string): string => `${(count / fast / 1e6).toFixed(1).padStart(6)} ${unit}`;
    const rates = `${rate(bytes, "GB/s")}${flops > 0 ? `, ${rate(flops, "GFLOP/s")}` : ""}`;
    console.log(
      `${title.padEnd(44)} ${fast.toFixed(3).padStart(8)} ms, ${rates}, ${(slow / fast).toFixed(0)} × the oracle`,
    );
    await kernel.dispose();
    await oracle.dispose();
  });
}

async function medianMs(run: () => Promise<void>, least: number): Promise<number> {
  const times: number[] = [];
  const start = performance.now();
  while (times.length < least || performance.now() - start < BUDGET_MS) {
    const from = performance.now();
    await run();
    times.push(performance.now() - from);
    if (least === 1 && performance.now() - start > BUDGET_MS) break;
  }
  return times.sort((a, b) => a - b)[times.length >> 1]!;
}

function bytesIn(tensor: Tensor, numbers: RunNumbers): number {
  const rows = rowsIn(tensor, numbers);
  if (tensor.kind === "weight" && tensor.dtype !== "i32") return packedBytes(tensor.dtype, rows, tensor.cols);
  return rows * tensor.cols * 4;
}
