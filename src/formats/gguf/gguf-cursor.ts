/** Reads a GGUF header from front to back through a window, never the whole file. */
import { FormatError } from "../../errors.ts";
import type { ByteSource } from "../bytes.ts";

/** Empty strings cost 8 bytes in the file and more with us, so all that a header holds is limited too. */
const MAX_HEADER_BYTES = 256 * 1024 * 1024;
/** The first read; windows then double up to a limit, as most files' headers take 20 kB to 10 MB. */
const FIRST_WINDOW_BYTES = 64 * 1024;
const LARGEST_WINDOW_BYTES = 4 * 1024 * 1024;

/** A forward reader. `need` makes bytes available at the position, `take` passes over them. */
export type Cursor = {
  readonly position: number;
  /** Bytes from the position to the window's end. */
  readonly inWindow: number;
  /** The window. Its offsets are those that `take` returns. */
  readonly view: DataView<ArrayBuffer>;
  /** Returns a promise only if the window must move; await it before `take`. */
  need(byteCount: number, what: string): Promise<void> | undefined;
  /** Throws unless the file goes on for this many bytes. */
  mustRemain(byteCount: number, what: string): void;
  /** Passes over bytes that `need` made available; returns their offset in `view`. */
  take(byteCount: number): number;
  error(at: number, problem: string, advice?: string, cause?: unknown): FormatError;
};

/** A cursor at the start of a file. */
export function createCursor(source: ByteSource): Cursor {
  let view = new DataView(new ArrayBuffer(0));
  let windowStart = 0;
  let position = 0;
  let nextBytes = FIRST_WINDOW_BYTES;

  const error: Cursor["error"] = (at, problem, advice = "The file is damaged; download it again.", cause) =>
    new FormatError(
      `${source.name}: ${problem} (at byte ${at}). ${advice}`,
      cause === undefined ? undefined : { cause },
    );

  function mustRemain(byteCount: number, what: string): void {
    if (position + byteCount > source.size) {
      throw error(
        position,
        `${what} needs ${byteCount} bytes, ${source.size - position} remain`,
        "The file is cut short; download it again.",
      );
    }
  }

  async function moveWindow(byteCount: number): Promise<void> {
    const bytes = new Uint8Array(Math.min(source.size - position, Math.max(byteCount, nextBytes)));
    await source.read(position, bytes);
    view = new DataView(bytes.buffer);
    windowStart = position;
    nextBytes = Math.min(nextBytes * 2, LARGEST_WINDOW_BYTES);
  }

  return {
    get position() {
      return position;
    },
    get inWindow() {
      return windowStart + view.byteLength - position;
    },
    get view() {
      return view;
    },
    need(byteCount, what) {
      if (position + byteCount <= windowStart + view.byteLength) return undefined;
      mustRemain(byteCount, what);
      if (position + byteCount > MAX_HEADER_BYTES) {
        throw error(position, `the header is longer than the ${MAX_HEADER_BYTES} bytes that are read`);
      }
      return moveWindow(byteCount);
    },
    mustRemain,
    take(byteCount) {
      const from = position - windowStart;
      position += byteCount;
      return from;
    },
    error,
  };
}
