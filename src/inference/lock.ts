/** First come, first served. Resolves to the function that lets the next one in. */
export function createLock(): (signal?: AbortSignal) => Promise<() => void> {
  const waiting: (() => void)[] = [];
  let isTaken = false;

  function releaseOnce(): () => void {
    let isDone = false;
    return () => {
      if (isDone) return;
      isDone = true;
      const next = waiting.shift();
      if (next) next();
      else isTaken = false;
    };
  }

  return async (signal) => {
    signal?.throwIfAborted();
    if (isTaken) {
      await new Promise<void>((resolve, reject) => {
        const enter = (): void => {
          signal?.removeEventListener("abort", leave);
          resolve();
        };
        const leave = (): void => {
          waiting.splice(waiting.indexOf(enter), 1);
          reject(signal?.reason as Error);
        };
        signal?.addEventListener("abort", leave, { once: true });
        waiting.push(enter);
      });
    }
    isTaken = true;
    return releaseOnce();
  };
}
