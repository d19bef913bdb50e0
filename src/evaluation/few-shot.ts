/** Few-shot examples: the harness's draws, in the harness's order. */
import { type DataSource, readSplit } from "./data.ts";
import { createPythonRandom } from "./mersenne-twister.ts";
import type { Row } from "./row.ts";
import type { Task } from "./task.ts";

/** The harness's `fewshot_random_seed`. */
export const DEFAULT_SEED = 1234;

/** Draws the examples for one document after the other, so that the draws of the first N don't depend on how many follow. */
export type ExampleSampler = { draw(document: Row, count: number): readonly Row[] };

/** Nothing is read where nothing is drawn. */
export const noExamples: ExampleSampler = { draw: () => [] };

/** Reads a task's examples. @param rows the task's own, which stand in where no other split is there. */
export async function createExampleSampler(
  source: DataSource,
  task: Task,
  rows: readonly Row[],
  seed: number,
  signal?: AbortSignal,
): Promise<ExampleSampler> {
  const random = createPythonRandom(seed);
  let pool = rows;
  for (const file of task.examples ?? []) {
    const found = await readSplit(source, file, signal);
    if (found === undefined) continue;
    pool = task.prepare?.(found) ?? found;
    break;
  }
  const drawsOneMore = task.drawsOneMore ?? pool === rows;
  const keys = new Map<Row, string>();
  const key = (row: Row): string => {
    const known =
      keys.get(row) ??
      JSON.stringify(row.fields, (_, value: unknown) => (typeof value === "bigint" ? `${value}n` : value)); // Parquet has 64-bit integers
    keys.set(row, known);
    return known;
  };

  return {
    draw(document, count) {
      const needed = drawsOneMore ? count + 1 : count;
      if (pool.length < needed) {
        throw new RangeError(
          `fewShot: ${task.name} has ${pool.length} rows to draw ${needed} examples from. Ask for fewer, or add a file with more.`,
        );
      }
      const draw = (from: readonly Row[], many: number): readonly Row[] =>
        random.sample(from.length, many).flatMap((i) => from[i] ?? []);
      const drawn = draw(pool, needed);
      if (!drawsOneMore) return drawn;
      const others = drawn.filter((row) => key(row) !== key(document)).slice(0, count);
      if (others.length === count) return others;
      // A row that is there several times was drawn with its copies.
      return draw(
        pool.filter((row) => key(row) !== key(document)),
        count,
      );
    },
  };
}
