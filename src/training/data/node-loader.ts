/** Rows to train on from folders that `mobilellm data` made. */
import { FormatError } from "../../errors.ts";
import * as o from "../../options.ts";
import { createLoader, type Loader, loaderEntries, type MixturePart } from "./loader.ts";
import { type Dataset, openDataset } from "./node-dataset.ts";
import { windowRows } from "./rows.ts";

/** A loader that reads from files until `close`. */
export type DatasetLoader = Loader & { close(): Promise<void> };

type DatasetOptions = {
  readonly folder: string;
  /** Share of the rows, relative to the other weights. Without any, each data set is drawn in proportion to its size. */
  readonly weight?: number | undefined;
};

/** Which data sets become rows, and how. */
export type DatasetLoaderOptions = {
  readonly datasets: readonly DatasetOptions[];
  /** Targets of a row, which has one token more. */
  readonly length: number;
  /** Decides the order: equal seeds give equal rows. */
  readonly seed: number;
  /** A loader's `position`, to go on from there. */
  readonly position?: unknown;
};

const loaderSchema: o.Schema<DatasetLoaderOptions> = o.object<DatasetLoaderOptions>({
  datasets: o.list(o.object<DatasetOptions>({ folder: o.text, weight: o.optional(o.positive) })),
  ...loaderEntries,
});

/**
 * Opens data sets: a real shuffle of all rows in each epoch, and the mix asked for at every moment. Only what is asked for is read.
 * @example
 * const loader = await openLoader({ datasets: [{ folder: "data/stories" }], length: 256, seed: 1 });
 * const rows = await loader.next(8); // 8 rows of 257 ids
 * @throws {FormatError} for damaged data sets, and for some that were made with different tokenizers.
 */
export async function openLoader(options: DatasetLoaderOptions): Promise<DatasetLoader> {
  const { datasets, length, seed, position } = o.check("openLoader", loaderSchema, options);
  const opened: Dataset[] = [];
  const parts: MixturePart[] = [];
  const close = async (): Promise<void> => {
    for (const dataset of opened.splice(0)) await dataset.close();
  };
  try {
    for (const { folder, weight } of datasets) {
      const dataset = await openDataset(folder);
      opened.push(dataset);
      const { name, manifest, splits } = dataset;
      const [train, heldOut] = [windowRows(splits.train, length), windowRows(splits.heldOut, length)];
      parts.push({ name, train, heldOut, heldOutBytes: manifest.splits.heldOut.bytes, weight });
    }
    checkTokenizers(opened);
    const loader = createLoader(parts, { length, seed, position });
    return Object.assign(loader, { close });
  } catch (error) {
    await close();
    throw error;
  }
}

function checkTokenizers([first, ...others]: readonly Dataset[]): void {
  const other = others.find(({ manifest }) => manifest.tokenizer.sha256 !== first?.manifest.tokenizer.sha256);
  if (other === undefined || first === undefined) return;
  throw new FormatError(
    `${other.name}: the tokenizer of ${first.name} was required, it was made with another. Prepare both with one tokenizer.`,
  );
}
