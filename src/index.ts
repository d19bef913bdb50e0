/**
 * mobilellm in a browser or any other runtime with web APIs: loads models from bytes. In Node the package's entry is
 * node.ts, which adds files and the Hub.
 */
import type { WorkerPort } from "./backends/wasm/wasm.ts";
import { FormatError } from "./errors.ts";
import { openBytes, type ModelBytes } from "./formats/open-bytes.ts";
import type { Model } from "./inference/model.ts";
import { checkModelOptions, type ModelOptions, openModel } from "./open-model.ts";

export * from "./public.ts";

/** Where the bundled model lies; bundlers find the file by this expression. */
const bundledModel = new URL("../models/stories.gguf", import.meta.url);

/**
 * Loads a model from bytes: a GGUF file, or a Hugging Face folder as a record of file names. Without a source: the
 * bundled model, fetched from beside this file.
 * @example const model = await loadModel(await (await fetch("model.gguf")).blob());
 * @throws {FormatError} for damaged files, {BackendError} when the model does not fit.
 */
export async function loadModel(source?: ModelBytes, options: ModelOptions = {}): Promise<Model> {
  checkModelOptions(options);
  const checkpoint = await openBytes(source ?? (await fetchBundled()));
  return openModel(checkpoint, options, {
    spawn: spawnWebWorker,
    canShare: "crossOriginIsolated" in globalThis && crossOriginIsolated,
    cores: globalThis.navigator?.hardwareConcurrency ?? 1,
  });
}

async function fetchBundled(): Promise<Blob> {
  const response = await fetch(bundledModel);
  if (!response.ok) {
    throw new FormatError(
      `${bundledModel.href}: the bundled model was required, got HTTP ${response.status}. Serve the package's models/ beside dist/, or pass bytes.`,
    );
  }
  return response.blob();
}

function spawnWebWorker(): WorkerPort {
  const worker = new Worker(new URL("./backends/wasm/worker.web.js", import.meta.url), { type: "module" });
  return {
    post: (message, transfer) => worker.postMessage(message, transfer),
    onMessage: (listener) => worker.addEventListener("message", (event) => listener(event.data)),
    onError: (listener) => worker.addEventListener("error", (event) => listener(new Error(event.message))),
    terminate: async () => worker.terminate(),
  };
}
