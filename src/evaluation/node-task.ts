/** Tasks of one's own: a JavaScript module whose default export is the task (docs/evaluation.md). */
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { defineTask, type Task } from "./task.ts";

/** Loads a task from a module. @throws {TypeError} if it has none. */
export async function loadTask(path: string): Promise<Task> {
  const { default: task } = (await import(pathToFileURL(resolve(path)).href)) as { default?: Task };
  if (typeof task !== "object" || task === null) {
    throw new TypeError(`${path}: "export default" of a task was required. See docs/evaluation.md.`);
  }
  return defineTask(task);
}
