/** Files and folders of Node's file system behind the interfaces that the formats read. */
import { randomBytes } from "node:crypto";
import { access, open, readdir, rename, rm, stat, type FileHandle } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { FormatError } from "../errors.ts";
import type { ByteSink, ByteSource } from "./bytes.ts";
import type { FileSet } from "./hf-folder.ts";

/** A file on disk that stays open until `close`. */
export type FileSource = ByteSource & { close(): Promise<void> };

/** Opens a file for random access. Reads go straight into the caller's array. @throws {FormatError} if it can't be opened. */
export async function fileSource(path: string): Promise<FileSource> {
  const file = await explain(path, "a file", () => open(path, "r"));
  try {
    const status = await file.stat();
    if (!status.isFile()) throw new FormatError(`${path}: a file was required, got a folder or device.`);
    return handleSource(file, basename(path), status.size);
  } catch (error) {
    await file.close();
    throw error;
  }
}

function handleSource(file: FileHandle, name: string, size: number): FileSource {
  return {
    name,
    size,
    close: () => file.close(),
    read: async (offset, into) => {
      let done = 0;
      while (done < into.length) {
        const { bytesRead } = await file.read(into, done, into.length - done, offset + done);
        if (bytesRead === 0) {
          throw new FormatError(
            `${name}: ${into.length} bytes were required at byte ${offset}, ${done} remain. Was the file changed?`,
          );
        }
        done += bytesRead;
      }
    },
  };
}

/** Gives the files directly in a folder. Each is opened once and stays open until `close`. */
export function folderFiles(path: string): FileSet {
  return openOnce(
    basename(resolve(path)),
    async () => {
      const entries = await explain(path, "a folder", () => readdir(path, { withFileTypes: true }));
      return entries.filter((entry) => !entry.isDirectory()).map((entry) => entry.name);
    },
    (file) => join(path, file),
  );
}

/** Makes a FileSet over paths on disk, each file opened when it is first asked for. */
export function openOnce(
  name: string,
  list: () => Promise<readonly string[]>,
  locate: (path: string) => string,
): FileSet {
  const opened = new Map<string, Promise<FileSource>>();
  return {
    name,
    list,
    open: (path) => {
      // Paths may come from an index file of unknown origin: they must not lead out of the folder.
      if (path === "" || path.startsWith("/") || /[\\:]|(^|\/)\.\.?(\/|$)/.test(path)) {
        return Promise.reject(new FormatError(`${name}: a file inside the folder was required, got ${path}.`));
      }
      let source = opened.get(path);
      if (source === undefined) {
        source = fileSource(locate(path));
        opened.set(path, source);
      }
      return source;
    },
    close: async () => {
      const sources = [...opened.values()];
      opened.clear();
      for (const source of await Promise.allSettled(sources)) {
        if (source.status === "fulfilled") await source.value.close();
      }
    },
  };
}

/** A file that is not there until it is whole. */
export type AtomicFileSink = ByteSink & {
  /** Puts the file in place, whole and on disk. */
  commit(): Promise<void>;
  /** Leaves whatever was there before. Does nothing after `commit`. */
  abort(): Promise<void>;
};

/** Writes beside `path` and renames at the end: a reader sees the old file or the whole new one, never a part. */
export async function atomicFileSink(path: string): Promise<AtomicFileSink> {
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString("hex")}.tmp`);
  const file = await explain(path, "a writable folder", () => open(temporary, "wx"));
  let isOpen = true;
  const close = async (): Promise<void> => {
    isOpen = false;
    await file.close();
  };
  const discard = async (): Promise<void> => {
    if (isOpen) await close();
    await rm(temporary, { force: true });
  };
  return {
    write: async (bytes) => {
      let done = 0;
      while (done < bytes.length) done += (await file.write(bytes, done, bytes.length - done)).bytesWritten;
    },
    commit: async () => {
      try {
        await file.sync();
        await close();
        await rename(temporary, path);
      } catch (error) {
        await discard();
        throw error;
      }
    },
    abort: discard,
  };
}

/** Writes a whole file by way of `atomicFileSink`: in place when `write` is done, as it was when `write` fails. */
export async function writeAtomically<T>(path: string, write: (sink: ByteSink) => Promise<T>): Promise<T> {
  const sink = await atomicFileSink(path);
  try {
    const result = await write(sink);
    await sink.commit();
    return result;
  } catch (error) {
    await sink.abort();
    throw error;
  }
}

/** Whether there is anything at `path`. */
export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

/** Whether there is a folder at `path`; false for a file. @throws {FormatError} if there is nothing at `path`. */
export async function isFolder(path: string): Promise<boolean> {
  return (await explain(path, "a file or folder", () => stat(path))).isDirectory();
}

const reasons: Readonly<Record<string, string>> = {
  ENOENT: "there is nothing at this path",
  ENOTDIR: "this is not a folder",
  EISDIR: "this is a folder",
  EACCES: "permission was denied",
  EPERM: "permission was denied",
  EMFILE: "too many files are open",
  ENOSPC: "the disk is full",
};

async function explain<T>(path: string, wanted: string, action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? "";
    throw new FormatError(`${path}: ${wanted} was required, but ${reasons[code] ?? String(cause)}.`, { cause });
  }
}
