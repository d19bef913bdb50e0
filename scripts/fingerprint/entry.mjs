// @ts-check
import { readFile } from "node:fs/promises";
import { join } from "node:path";

/**
 * The path of a package's entry, as a runtime with these conditions finds it.
 * @param {string} root
 * @param {string} name "." or "./training".
 * @param {readonly string[]} conditions
 */
export async function entryOf(root, name, conditions) {
  const { exports, module, main } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  let target = exports?.[name] ?? (name === "." ? (exports ?? module ?? main) : undefined);
  while (typeof target === "object" && target !== null) {
    const condition = Object.keys(target).find((key) => conditions.includes(key));
    target = condition && target[condition];
  }
  if (typeof target === "string") return join(root, target);
  throw new Error(`${root}/package.json: an entry "${name}" for ${conditions.join(", ")} was required, got none.`);
}
