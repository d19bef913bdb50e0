/** Trains a tokenizer on text files. */
import { printJson } from "../../formats/json.ts";
import { createBpeTrainer, type BpeTrainerOptions, type TrainedTokenizer } from "../../tokenizer/train-bpe.ts";
import { type DocumentOptions, readDocuments, type SourceFile } from "./node-sources.ts";

/** Which text it learns from, and what its vocabulary shall hold. */
export type TrainTokenizerOptions = BpeTrainerOptions & DocumentOptions & { readonly sources: readonly SourceFile[] };

/** Trains a tokenizer and gives its files, as Hugging Face has them, by name. */
export async function trainTokenizer(options: TrainTokenizerOptions): Promise<ReadonlyMap<string, Uint8Array>> {
  const trainer = createBpeTrainer(options);
  for (const source of options.sources) {
    for await (const { text } of readDocuments(source, options)) trainer.add(text);
  }
  return tokenizerFiles(trainer.train());
}

function tokenizerFiles({ tokenizerJson, tokenizerConfig }: TrainedTokenizer): ReadonlyMap<string, Uint8Array> {
  const bytes = (value: unknown): Uint8Array => new TextEncoder().encode(printJson(value));
  return new Map([
    ["tokenizer.json", bytes(tokenizerJson)],
    ["tokenizer_config.json", bytes(tokenizerConfig)],
  ]);
}
