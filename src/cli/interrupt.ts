/** Ctrl-C. */

/** The work was stopped by Ctrl-C; ends with exit status 130, as in a shell. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
}

/**
 * Runs `work`; Ctrl-C aborts the signal that it gets. A second Ctrl-C ends the process at once.
 * @throws {Interrupted} if the work ended because of that.
 */
export async function untilInterrupted<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const abort = (): void => controller.abort(new Interrupted("interrupted"));
  process.once("SIGINT", abort);
  try {
    return await work(controller.signal);
  } catch (error) {
    throw controller.signal.aborted ? controller.signal.reason : error;
  } finally {
    process.off("SIGINT", abort);
  }
}
