/** What this machine can do at most: the fastest of a few matrix products, by which a run's speed is judged. */
import type { Backend } from "../../backends/backend.ts";
import { createRecorder, input, weight } from "../../program/recorder.ts";
import { createRandom } from "../../random.ts";

/** Large enough that the product, not its start, takes the time; small enough that the operands stay in cache. */
const SIZE = 512;
/** So many products follow each other in a replay, so that asking for it doesn't count. */
const PRODUCTS = 4;
const REPLAYS = 6;
/** No replay begins later than this: the reference backend takes a second for one. */
const MOST_MS = 500;

/** Measures the FLOP/s of an f32 product of 512 × 512 matrices on all threads of `backend`; takes a fraction of a second. */
export async function measurePeak(backend: Backend, now: () => number): Promise<number> {
  const recorder = createRecorder({ tokens: SIZE, outputs: SIZE, positions: SIZE });
  const [square, x] = [weight("weight", SIZE, SIZE), input("x", SIZE)];
  let product = x;
  for (let i = 0; i < PRODUCTS; i++) product = recorder.linearInput({ dy: product, weight: square });
  const { program } = recorder.finish({ product });

  const machine = await backend.open();
  try {
    const { run } = await machine.prepare(program);
    const random = createRandom(1);
    const values = Float32Array.from({ length: SIZE * SIZE }, () => random.normal() / Math.sqrt(SIZE));
    const bytes = new Uint8Array(values.buffer);
    await machine.upload(square, 0, SIZE, "F32", bytes.slice());
    await machine.write(x, 0, bytes);
    let best = Infinity;
    const start = now();
    for (let i = 0; i < REPLAYS && now() - start < MOST_MS; i++) {
      const from = now();
      await run({ tokens: SIZE, position: 0, outputs: SIZE });
      best = Math.min(best, now() - from);
    }
    return (1000 * PRODUCTS * 2 * SIZE ** 3) / best;
  } finally {
    await machine.dispose();
  }
}
