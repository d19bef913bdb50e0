/** What a training run takes from this machine, besides its trainer: threads, files, devices. */
import { readFile } from "node:fs/promises";
import { describeModel } from "../design/describe.ts";
import { FormatError } from "../errors.ts";
import { type ChatLoaderOptions, openChatLoader } from "../training/data/node-chat-loader.ts";
import { openLoader } from "../training/data/node-loader.ts";
import { measurePeak } from "../training/run/measure-peak.ts";
import type { TrainEdges } from "../training/run/node-train.ts";
import { nodeEdge } from "./node.ts";
import { openCheckpoint, openTokenizerWithFiles } from "./node-open.ts";
import { chooseBackend } from "./open-model.ts";

export const trainEdges: Omit<TrainEdges, "createTrainer"> = {
  openLoader: ({ data: { datasets, chats, length }, tokenizer, ...order }) =>
    chats === undefined
      ? openLoader({ datasets, length, ...order })
      : openChats({ ...chats, tokenizer, length, ...order }),
  openTokenizer: openTokenizerWithFiles,
  openCheckpoint,
  forwardFlops: describeModel,
  measurePeak({ threads, device }) {
    const edge = nodeEdge();
    const backend = chooseBackend(device, { ...edge, threads: threads ?? edge.cores });
    return measurePeak(backend, () => performance.now());
  },
};

async function openChats(options: ChatLoaderOptions): ReturnType<TrainEdges["openLoader"]> {
  return Object.assign(await openChatLoader(options), { close: async () => {} });
}

/** Reads a recipe at a path; one that is there already becomes the text that it would be in a file. */
export async function readRecipe(recipe: string | object): Promise<{ readonly source: string; readonly file: string }> {
  if (typeof recipe !== "string") return { source: JSON.stringify(recipe), file: "recipe" };
  const source = await readFile(recipe, "utf8").catch((cause: NodeJS.ErrnoException) => {
    const reason = cause.code === "ENOENT" ? "there is nothing at this path" : cause.message;
    throw new FormatError(`${recipe}: a recipe was required, but ${reason}. Print one with --print-recipe.`, { cause });
  });
  return { source, file: recipe };
}
