/**
 * What the MobileLLM paper (arXiv:2402.14905) reports: tables 3 and 8 (zero-shot accuracy in percent, the columns of
 * `commonSense`) and, as far as it is known, table 4 (RACE accuracy).
 */
import { commonSense } from "./task-list.ts";

/** What the paper says of one model. */
export type Baseline = {
  readonly model: string;
  /** Its parameters in millions. */
  readonly parameters: number;
  /** Accuracy in percent by task. */
  readonly scores: Readonly<Record<string, number>>;
  readonly isMobileLLM: boolean;
};

type Line = readonly [model: string, parameters: number, ...scores: number[]];

/** Models of about one size, as the paper compares them. */
const groups: readonly (readonly Line[])[] = [
  [
    ["Cerebras-GPT-111M", 111, 35.8, 20.2, 62, 58, 39.8, 26.7, 29, 48.8],
    ["LaMini-GPT-124M", 124, 43.6, 26, 51.8, 62.7, 42.1, 30.2, 29.6, 49.2],
    ["Galactica-125M", 125, 44, 26.2, 54.9, 55.4, 38.9, 29.6, 28.2, 49.6],
    ["OPT-125M", 125, 41.3, 25.2, 57.5, 62, 41.9, 31.1, 31.2, 50.8],
    ["GPT-neo-125M", 125, 40.7, 24.8, 61.3, 62.5, 41.9, 29.7, 31.6, 50.7],
    ["Pythia-160M", 162, 40, 25.3, 59.5, 62, 41.5, 29.9, 31.2, 50.9],
    ["RWKV-169M", 169, 42.5, 25.3, 59.1, 63.9, 40.7, 31.9, 33.8, 51.5],
    ["MobileLLM-125M", 125, 43.9, 27.1, 60.2, 65.3, 42.4, 38.9, 39.5, 53.1],
    ["MobileLLM-LS-125M", 125, 45.8, 28.7, 60.4, 65.7, 42.9, 39.5, 41.1, 52.1],
  ],
  [
    ["Cerebras-GPT-256M", 256, 37.9, 23.2, 60.3, 61.4, 40.6, 28.3, 31.8, 50.5],
    ["OPT-350M", 331, 41.9, 25.7, 54, 64.8, 42.6, 36.2, 33.3, 52.4],
    ["Pythia-410M", 405, 47.1, 30.3, 55.3, 67.2, 43.1, 40.1, 36.2, 53.4],
    ["RWKV-430M", 430, 48.9, 32, 53.4, 68.1, 43.6, 40.6, 37.8, 51.6],
    ["BLOOM-560M", 559, 43.7, 27.5, 53.7, 65.1, 42.5, 36.5, 32.6, 52.2],
    ["Cerebras-GPT-590M", 590, 42.6, 24.9, 57.7, 62.8, 40.9, 32, 33.2, 49.7],
    ["MobileLLM-350M", 345, 53.8, 33.5, 62.4, 68.6, 44.7, 49.6, 40, 57.6],
    ["MobileLLM-LS-350M", 345, 54.4, 32.5, 62.8, 69.8, 44.1, 50.6, 45.8, 57.2],
  ],
  [
    ["Qwen1.5-500M", 500, 54.7, 32.1, 46.9, 68.9, 46, 48.8, 37.7, 55],
    ["MobiLlama-800M", 800, 52, 31.7, 54.6, 73, 43.3, 52.3, 42.5, 56.3],
    ["MobileLLM-600M", 603, 58.1, 35.8, 61, 72.3, 44.9, 55.9, 47.9, 58.6],
  ],
  [
    ["Pythia-1B", 1000, 49.9, 30.4, 58.7, 69.2, 43.3, 47.4, 38.6, 52.2],
    ["MobiLlama-1B", 1000, 59.7, 38.4, 59.2, 74.5, 44.9, 62, 43.7, 59],
    ["Falcon-1B", 1000, 59.5, 38.4, 63.9, 74.6, 44.6, 62.9, 45.6, 60.9],
    ["BLOOM-1.1B", 1100, 47.6, 27.3, 58.6, 67, 42.4, 42.2, 36.6, 53.8],
    ["TinyLlama-1.1B", 1100, 59.2, 37.1, 58.1, 72.9, 43.9, 59.1, 44.7, 58.8],
    ["MobileLLM-1B", 1005, 63, 39, 66.7, 74.4, 45, 61.4, 46.8, 62.3],
  ],
  [
    ["Cerebras-GPT-1.3B", 1300, 47.4, 28.3, 57.3, 66.9, 43.1, 38.2, 38.4, 52.1],
    ["Galactica-1.3B", 1300, 59.8, 34.3, 61.4, 63.9, 42, 40.9, 33.8, 54.9],
    ["GPT-neo-1.3B", 1300, 51.3, 33, 61.8, 70.9, 43.7, 48.6, 41.2, 54.5],
    ["OPT-1.3B", 1300, 54.4, 31.7, 58.4, 71.5, 44.7, 53.7, 44.6, 59.1],
    ["LaMini-GPT-1.5B", 1500, 59.9, 39.1, 77, 71.9, 45.9, 50.9, 44.4, 57.5],
    ["RWKV-1.5B", 1500, 56.2, 33.8, 61.8, 72.3, 44.7, 52.8, 41.8, 54.7],
    ["BLOOM-1.7B", 1700, 50.9, 31.2, 61.7, 70, 43.2, 47.2, 36.2, 56.1],
    ["Qwen1.5-1.8B", 1800, 61.1, 36.5, 68.3, 74.1, 47.2, 60.4, 42.9, 61.2],
    ["MobileLLM-1.5B", 1511, 67.5, 40.9, 65.7, 74.8, 46.4, 64.5, 50.5, 64.7],
  ],
  [
    ["Cerebras-GPT-2.7B", 2700, 53.8, 32.3, 55, 71, 43.3, 48.9, 40.6, 55.7],
    ["GPT-neo-2.7B", 2700, 55.8, 34.3, 62.4, 72.9, 43.6, 55.6, 40, 57.9],
    ["OPT-2.7B", 2700, 56.6, 34.6, 61.8, 74.5, 45.6, 60.2, 48.2, 59.6],
    ["Pythia-2.8B", 2800, 59.4, 38.9, 66.1, 73.8, 44.5, 59.6, 45, 59.4],
    ["BLOOM-3B", 3000, 55.1, 33.6, 62.1, 70.5, 43.2, 53.9, 41.6, 58.2],
    ["RWKV-3B", 3000, 60.1, 39.1, 58.6, 74.5, 45.1, 59.8, 44.6, 59.1],
  ],
];

const race: Readonly<Record<string, { readonly race_middle: number; readonly race_high: number }>> = {
  "OPT-125M": { race_middle: 34.7, race_high: 27.5 },
  "MobileLLM-125M": { race_middle: 39.7, race_high: 28.9 },
  "MobileLLM-LS-125M": { race_middle: 40.7, race_high: 29.6 },
  "MobileLLM-350M": { race_middle: 45.6, race_high: 33.8 },
  "MobileLLM-LS-350M": { race_middle: 47.3, race_high: 33.7 },
};

/** The paper's models nearest in size (by ratio). @param parameters of our model. */
export function baselinesFor(parameters: number): readonly Baseline[] {
  const distance = (lines: readonly Line[]): number =>
    Math.min(...lines.map(([, millions]) => Math.abs(Math.log((millions * 1e6) / parameters))));
  const nearest = groups.reduce((best, lines) => (distance(lines) < distance(best) ? lines : best));
  return nearest.map(([model, millions, ...scores]) => ({
    model,
    parameters: millions,
    isMobileLLM: model.startsWith("MobileLLM"),
    scores: { ...Object.fromEntries(commonSense.map((task, i) => [task, scores[i]!])), ...race[model] },
  }));
}
