/**
 * mobilellm in a browser or any other runtime with web APIs: loads models from bytes. Node has an entry of its own
 * (entries/node/index.ts), which adds files and the Hub.
 */
import { FormatError } from "../../errors.ts";
import { openBytes, type ModelBytes } from "../../formats/open-bytes.ts";
import type { Model } from "../../inference/model.ts";
import { type ModelOptions, modelSchema, openModel } from "../../edge/open-model.ts";
import * as o from "../../options.ts";
import { webEdge } from "../../edge/web.ts";

export * from "../shared/index.ts";

/** Where the bundled model lies; bundlers find the file by this expression. */
const bundledModel = new URL("../../../models/stories.gguf", import.meta.url);

/**
 * Loads a model from bytes: a GGUF file, or a Hugging Face folder as a record of file names. Without a source: the
 * bundled model, fetched from beside this file.
 * @example const model = await loadModel(await (await fetch("model.gguf")).blob());
 * @throws {FormatError} for damaged files, {BackendError} when the model does not fit.
 */
export async function loadModel(source?: ModelBytes, options: ModelOptions = {}): Promise<Model> {
  const settings = o.check("loadModel", modelSchema, options);
  const checkpoint = await openBytes(source ?? (await fetchBundled()));
  return openModel(checkpoint, settings, webEdge());
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
