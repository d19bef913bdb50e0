/** Threads of Node, which share memory, and the flag that Node 20 needs before a module with relaxed SIMD is compiled. */
import { availableParallelism } from "node:os";
import { setFlagsFromString } from "node:v8";
import { Worker } from "node:worker_threads";
import type { WorkerPort } from "../backends/wasm/wasm.ts";
import type { ModelEdge } from "./open-model.ts";

/** Threads of this process, which share memory. */
export function nodeEdge(): ModelEdge {
  allowRelaxedSimd();
  return { spawn: () => spawnThread(), canShare: true, cores: availableParallelism() };
}

/** Node 20 keeps relaxed SIMD behind a flag, which holds for modules compiled after it is set; later versions ignore it. */
export function allowRelaxedSimd(): void {
  if (Number.parseInt(process.versions.node, 10) < 22) setFlagsFromString("--experimental-wasm-relaxed-simd");
}

/** @param script the built worker. */
export function spawnThread(script: URL = new URL("../backends/wasm/worker.node.js", import.meta.url)): WorkerPort {
  const worker = new Worker(script, {
    execArgv: [], // `node -e` and its like hand on options that a worker refuses
  });
  worker.unref();
  return {
    post: (message, transfer) => worker.postMessage(message, transfer),
    onMessage: (listener) => void worker.on("message", listener),
    onError: (listener) => void worker.on("error", listener),
    terminate: async () => void (await worker.terminate()),
  };
}
