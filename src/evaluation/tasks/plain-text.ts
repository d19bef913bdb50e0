/** A text file in bits per byte: a number that tokenizers do not change. */
import { defineTask, type RollingTask } from "../task.ts";

/** Makes the task of a text file. @param file the name of a text file in the data, such as `story.txt`. */
export function plainText(file: string): RollingTask {
  return defineTask({
    name: file,
    version: 1,
    kind: "rolling",
    data: { names: [file] },
    windows: "rolling",
    document: (row) => ({ text: row.text("text") }),
  });
}
