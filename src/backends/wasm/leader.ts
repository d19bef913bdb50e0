/** The workers as the machine sees them: requests to the leader, which answers them in order, and the words in shared memory. */
import { BackendError, FormatError } from "../../errors.ts";
import type { Reply, Request } from "./host.ts";
import { header } from "./header.ts";

/** A worker, whichever runtime made it. */
export type WorkerPort = {
  post(message: unknown, transfer: ArrayBuffer[]): void;
  onMessage(listener: (reply: Reply) => void): void;
  onError(listener: (error: Error) => void): void;
  terminate(): Promise<void>;
};

export type Leader = {
  ask(request: Request, transfer?: ArrayBuffer[]): Promise<Reply>;
  write(address: number, bytes: Uint8Array): Promise<void>;
  clear(address: number, length: number): Promise<void>;
  /** Makes memory reach to byte `end`. @throws {BackendError} if there is not so much. */
  grow(end: number): Promise<void>;
  /** Stops replay `number` at its next barrier, where memory is shared. */
  cancel(number: number): void;
  dispose(): Promise<void>;
};

/** @param words the header, where memory is shared. */
export function createLeader(workers: readonly WorkerPort[], words: Int32Array | undefined): Leader {
  const leader = workers[0]!;
  const waiting = new Map<number, { resolve: (reply: Reply) => void; reject: (error: Error) => void }>();
  let nextId = 0;
  let failure: Error | undefined;
  let reach = 0;

  const fail = (error: Error): void => {
    failure ??= error;
    for (const { reject } of waiting.values()) reject(failure);
    waiting.clear();
  };
  for (const worker of workers) {
    worker.onError((error) => fail(new BackendError(`wasm: a worker stopped: ${error.message}`, { cause: error })));
  }
  leader.onMessage((reply) => {
    const call = waiting.get(reply.id);
    waiting.delete(reply.id);
    if (reply.error) call?.reject(rebuildError(reply.error));
    else call?.resolve(reply);
  });

  async function ask(request: Request, transfer: ArrayBuffer[] = []): Promise<Reply> {
    if (failure) throw failure;
    const id = nextId++;
    return new Promise((resolve, reject) => {
      waiting.set(id, { resolve, reject });
      leader.post({ id, request }, transfer);
    });
  }

  return {
    ask,
    async write(address, bytes) {
      const copy = new Uint8Array(bytes); // of its own, to be handed over
      await ask({ kind: "write", address, bytes: copy }, [copy.buffer]);
    },
    clear: async (address, length) => void (await ask({ kind: "clear", address, length })),
    async grow(end) {
      if (end <= reach) return;
      await ask({ kind: "grow", end });
      reach = end;
    },
    cancel(number) {
      if (words) Atomics.store(words, header.cancel / 4, number);
    },
    async dispose() {
      fail(new BackendError("wasm: the model has been disposed of. Load it again."));
      if (words) {
        Atomics.store(words, header.quit / 4, 1);
        Atomics.add(words, header.run / 4, 1);
        Atomics.notify(words, header.run / 4);
      }
      await Promise.all(workers.map((worker) => worker.terminate()));
    },
  };
}

function rebuildError({ name, message }: { name: string; message: string }): Error {
  return name === "FormatError" ? new FormatError(message) : new BackendError(`wasm: ${message}`);
}
