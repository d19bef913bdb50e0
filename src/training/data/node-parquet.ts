/** One text column of a Parquet file, read row group by row group. */
import { open } from "node:fs/promises";
import { type AsyncBuffer, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { compressors } from "hyparquet-compressors";
import { FormatError } from "../../errors.ts";
import type { ReadOptions } from "./node-text.ts";

/** Reads a column, text by text. @throws {FormatError} if the file is damaged or has no such text column. */
export async function* readParquetColumn(
  path: string,
  column: string,
  { signal, onBytes }: ReadOptions = {},
): AsyncGenerator<string> {
  const handle = await open(path, "r");
  try {
    const { size } = await handle.stat();
    const file: AsyncBuffer = {
      byteLength: size,
      async slice(start, end = size) {
        signal?.throwIfAborted();
        const bytes = new Uint8Array(end - start);
        const { bytesRead } = await handle.read(bytes, 0, bytes.length, start);
        if (bytesRead < bytes.length) throw new Error(`it ends at byte ${start + bytesRead}`);
        return bytes.buffer;
      },
    };
    const metadata = await explain(path, signal, () => parquetMetadataAsync(file));
    const names = metadata.schema.slice(1).map(({ name }) => name);
    if (!names.includes(column)) {
      const listed = names.map((name) => `"${name}"`).join(", ");
      throw new FormatError(
        `${path}: a column "${column}" is required, got ${listed}. Name one of them as the text field (--text-field).`,
      );
    }
    let rowStart = 0;
    let reported = 0;
    for (const [index, group] of metadata.row_groups.entries()) {
      const rowEnd = rowStart + Number(group.num_rows);
      const rows = await explain(path, signal, () =>
        parquetReadObjects({ file, metadata, compressors, columns: [column], rowStart, rowEnd }),
      );
      for (const [offset, row] of rows.entries()) {
        const value: unknown = row[column];
        if (typeof value === "string") yield value;
        else if (value !== null && value !== undefined) {
          throw new FormatError(
            `${path}: column "${column}" must hold text, got ${typeof value} in row ${rowStart + offset}.`,
          );
        }
      }
      rowStart = rowEnd;
      // Only some columns are read: a group counts for its share of the file.
      const read = Math.round((size * (index + 1)) / metadata.row_groups.length);
      onBytes?.(read - reported);
      reported = read;
    }
  } finally {
    await handle.close();
  }
}

async function explain<T>(path: string, signal: AbortSignal | undefined, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    signal?.throwIfAborted();
    throw new FormatError(`${path}: a Parquet file is required: ${(cause as Error).message}.`, { cause });
  }
}
