/** Workers of a page or of any runtime with web APIs. They share memory where the page is cross-origin isolated. */
import type { WorkerPort } from "../backends/wasm/wasm.ts";
import type { ModelEdge } from "./open-model.ts";

export function webEdge(): ModelEdge {
  return {
    spawn: spawnWebWorker,
    canShare: "crossOriginIsolated" in globalThis && crossOriginIsolated,
    cores: globalThis.navigator?.hardwareConcurrency ?? 1,
  };
}

function spawnWebWorker(): WorkerPort {
  const worker = new Worker(new URL("../backends/wasm/worker.web.js", import.meta.url), { type: "module" });
  return {
    post: (message, transfer) => worker.postMessage(message, transfer),
    onMessage: (listener) => worker.addEventListener("message", (event) => listener(event.data)),
    onError: (listener) => worker.addEventListener("error", (event) => listener(new Error(event.message))),
    terminate: async () => worker.terminate(),
  };
}
