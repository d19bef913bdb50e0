/** What stands in the way of a model that is written. */
import { readdir, realpath, stat } from "node:fs/promises";
import { UsageError } from "./usage.ts";

export function isGgufPath(path: string): boolean {
  return path.toLowerCase().endsWith(".gguf");
}

/**
 * Nothing is overwritten unasked, the model that is read never, and no folder becomes a file.
 * @throws {UsageError} saying what is in the way.
 */
export async function checkOutput(command: string, model: string, out: string, force: boolean): Promise<void> {
  const status = await stat(out).catch(() => undefined);
  if (status === undefined) return;
  const input = await realpath(model).catch(() => undefined); // a Hub id is no path
  if (input === (await realpath(out)))
    throw new UsageError(`${command}: ${out} is the model itself. Choose another name.`);
  if (status.isDirectory() === isGgufPath(out)) {
    throw new UsageError(`${command}: ${out} is a ${status.isDirectory() ? "folder" : "file"}. Choose another name.`);
  }
  if (force || (status.isDirectory() && (await readdir(out)).length === 0)) return;
  throw new UsageError(`${command}: ${out} exists. Pass --force to overwrite it.`);
}
