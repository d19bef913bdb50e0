/** Carries calls out one after the other, in the order in which they were made; one that fails holds up nobody. */
export type InTurn = <T>(work: () => Promise<T>) => Promise<T>;

export function createLine(): InTurn {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const turn = last.then(work);
    last = turn.catch(() => {});
    return turn;
  };
}
