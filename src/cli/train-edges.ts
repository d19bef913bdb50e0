/** What a training run takes from this machine: threads, files, devices. */
import { stat } from "node:fs/promises";
import { describeModel } from "../design/describe.ts";
import { nodeEdge } from "../edge/node.ts";
import { openCheckpoint } from "../entries/node/index.ts";
import { chooseBackend } from "../edge/open-model.ts";
import { type ChatLoaderOptions, openChatLoader } from "../training/data/node-chat-loader.ts";
import { openLoader } from "../training/data/node-loader.ts";
import type { DatasetTokenizer } from "../training/data/node-prepare.ts";
import { measurePeak } from "../training/run/measure-peak.ts";
import type { TrainEdges } from "../training/run/node-train.ts";
import { createTrainer } from "../entries/node/training.ts";
import { datasetTokenizer, openDatasetTokenizer } from "./data-tokenizer.ts";

export const trainEdges: TrainEdges = {
  createTrainer,
  openLoader: ({ data: { datasets, chats, length }, ...options }) =>
    chats === undefined ? openLoader({ datasets, length, ...options }) : openChats({ ...chats, length, ...options }),
  openTokenizer,
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

/** At a path, or of a checkpoint on the Hub. */
async function openTokenizer(path: string, { signal }: { signal: AbortSignal }): Promise<DatasetTokenizer> {
  if ((await isLocalFolder(path)) || /\.(json|model)$/.test(path)) return openDatasetTokenizer(path);
  const checkpoint = await openCheckpoint(path, { signal });
  try {
    return datasetTokenizer(checkpoint.tokenizer, path);
  } finally {
    await checkpoint.close();
  }
}

async function isLocalFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}
