/** mobilellm in Node: what the web entry has and, besides, paths, threads and the Hub. */
import { fileURLToPath } from "node:url";
import { nodeEdge } from "../../edge/node.ts";
import { openSource, openTokenizer } from "../../edge/node-open.ts";
import { modelEntries, type ModelOptions, type ModelSettings, openModel } from "../../edge/open-model.ts";
import { type HubOptions, hubSchema } from "../../formats/node-hub.ts";
import type { ModelBytes } from "../../formats/open-bytes.ts";
import type { Model } from "../../inference/model.ts";
import * as o from "../../options.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";

export { openCheckpoint, openTokenizer } from "../../edge/node-open.ts";
export type { HubOptions } from "../../formats/node-hub.ts";
export * from "../shared/index.ts";

/** How a model is loaded in Node. */
export type NodeModelOptions = Omit<ModelOptions, "tokenizer"> & {
  /** Stands in where a checkpoint has none: a tokenizer, or the path of a folder, a tokenizer.json or a tokenizer.model. */
  readonly tokenizer?: Tokenizer | string | undefined;
  /** How to reach the Hub: token, endpoint, cacheDir, offline. Default: Hugging Face's environment variables. */
  readonly hub?: HubOptions | undefined;
};

type NodeModelSettings = Omit<ModelSettings, "tokenizer"> & NodeModelOptions;

const isTokenizer = (value: unknown): boolean =>
  typeof value === "string" || (typeof value === "object" && value !== null);
const nodeModelSchema: o.Schema<NodeModelOptions, NodeModelSettings> = o.object<NodeModelOptions, NodeModelSettings>({
  ...modelEntries,
  tokenizer: o.optional(o.thing("a tokenizer or the path of one", isTokenizer)),
  hub: o.optional(hubSchema),
});

/** The model that comes with the package: it writes small stories (models/README.md). */
export const bundledModel: string = fileURLToPath(new URL("../../../models/stories.gguf", import.meta.url));

/**
 * Loads a model: a folder in Hugging Face's layout, a .gguf file, a Hub id (`org/name[@revision]`, or
 * `org/name/file.gguf` for one file), or bytes. Without a source: the bundled model.
 * @example const model = await loadModel("models/MobileLLM-125M", { dtype: "q8" });
 * @throws {FormatError} for damaged files, {BackendError} when the model does not fit.
 */
export async function loadModel(
  source: string | ModelBytes = bundledModel,
  options: NodeModelOptions = {},
): Promise<Model> {
  const { tokenizer: given, hub, ...settings } = o.check("loadModel", nodeModelSchema, options);
  const tokenizer = typeof given === "string" ? await openTokenizer(given) : given;
  const checkpoint = await openSource(source, { signal: settings.signal, ...hub });
  try {
    return await openModel(checkpoint, { ...settings, tokenizer }, nodeEdge());
  } finally {
    await checkpoint.close();
  }
}
