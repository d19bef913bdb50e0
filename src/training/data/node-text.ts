/** Text files, plain or gzip-compressed, in blocks and in lines: strict UTF-8, constant memory. */
import { createReadStream } from "node:fs";
import { pipeline } from "node:stream";
import { createGunzip } from "node:zlib";
import { FormatError } from "../../errors.ts";

/** How a long read is watched, and stopped. */
export type ReadOptions = {
  readonly signal?: AbortSignal | undefined;
  /** Called with the number of bytes that were just read from disk. */
  readonly onBytes?: ((bytes: number) => void) | undefined;
};

const BLOCK_BYTES = 1_048_576;
/** Longer lines of JSONL would be one string of gigabytes. */
const MAX_LINE = 268_435_456;
const BYTE_ORDER_MARK = "\uFEFF";

/** Reads a text in blocks. @throws {FormatError} naming the line where it is not UTF-8, and for damaged gzip data. */
export async function* readTextBlocks(path: string, options: ReadOptions = {}): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let lines = 0;
  let open = new Uint8Array(0); // the beginning of a character whose end is in the next block
  let isStart = true;
  for await (const block of readBlocks(path, options)) {
    const bytes = open.length === 0 ? block : Buffer.concat([open, block]);
    const end = bytes.length - openCharacter(bytes);
    let text: string;
    try {
      text = decoder.decode(bytes.subarray(0, end));
    } catch (cause) {
      throw notUtf8(path, lines + linesBeforeError(bytes), cause);
    }
    open = bytes.slice(end);
    if (text === "") continue;
    if (isStart && text.startsWith(BYTE_ORDER_MARK)) text = text.slice(1);
    isStart = false;
    yield text;
    for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) lines++;
  }
  if (open.length > 0) throw notUtf8(path, lines);
}

/** Reads lines without their ends, counted from 1; blank ones are left out. */
export async function* readLines(
  path: string,
  options: ReadOptions = {},
): AsyncGenerator<{ readonly text: string; readonly line: number }> {
  let rest = "";
  let line = 0;
  for await (const block of readTextBlocks(path, options)) {
    const lines = (rest + block).split("\n");
    rest = lines.pop() ?? "";
    for (const text of lines) {
      line++;
      if (text.trim() !== "") yield { text, line };
    }
    if (rest.length > MAX_LINE) {
      throw new FormatError(`${path}:${line + 1}: lines of at most ${MAX_LINE} characters are read. Is this JSONL?`);
    }
  }
  if (rest.trim() !== "") yield { text: rest, line: line + 1 };
}

async function* readBlocks(path: string, { signal, onBytes }: ReadOptions): AsyncGenerator<Uint8Array> {
  const file = createReadStream(path, { highWaterMark: BLOCK_BYTES });
  file.on("data", (block) => onBytes?.(block.length));
  file.pause();
  const stream = path.endsWith(".gz") ? pipeline(file, createGunzip({ chunkSize: BLOCK_BYTES }), () => {}) : file;
  try {
    for await (const block of stream) {
      signal?.throwIfAborted();
      yield block as Uint8Array;
    }
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? "";
    if (code.startsWith("Z_")) {
      throw new FormatError(
        `${path}: valid gzip data is required, got: ${(cause as Error).message}. Download it again.`,
        {
          cause,
        },
      );
    }
    throw cause;
  } finally {
    file.destroy();
  }
}

/** Bytes at the end that begin a character and don't complete it. */
function openCharacter(bytes: Uint8Array): number {
  for (let back = 1; back <= Math.min(3, bytes.length); back++) {
    const byte = bytes[bytes.length - back]!;
    if (byte < 0x80) return 0;
    if (byte >= 0xc0) {
      const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
      return length > back ? back : 0;
    }
  }
  return 0;
}

function linesBeforeError(bytes: Uint8Array): number {
  const decodes = (end: number): boolean => {
    try {
      new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(0, end), { stream: true });
      return true;
    } catch {
      return false;
    }
  };
  let good = 0;
  for (let bad = bytes.length; bad - good > 1;) {
    const middle = (good + bad) >> 1;
    if (decodes(middle)) good = middle;
    else bad = middle;
  }
  return bytes.subarray(0, good).filter((byte) => byte === 0x0a).length;
}

function notUtf8(path: string, lines: number, cause?: unknown): FormatError {
  return new FormatError(
    `${path}:${lines + 1}: text in UTF-8 is required, this line has other bytes. Convert the file.`,
    {
      cause,
    },
  );
}
