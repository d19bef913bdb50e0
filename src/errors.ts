/**
 * The errors a user of this package can meet. Every message reads `where: what was required, got what. What to do.`
 * Wrong arguments raise TypeError or RangeError; these classes are for data and devices.
 */

/** A file is not what it should be: says the file and, where known, the tensor and the byte offset, in one line. */
export class FormatError extends Error {
  override readonly name = "FormatError";

  constructor(message: string, options?: ErrorOptions) {
    super(oneLine(message), options);
  }
}

/** Operands of an operation do not fit together. */
export class ShapeError extends Error {
  override readonly name = "ShapeError";
}

/** A device lacks a feature or the memory for what was asked. */
export class BackendError extends Error {
  override readonly name = "BackendError";
}

/** Training can't go on: loss or gradients are not finite. */
export class TrainingError extends Error {
  override readonly name = "TrainingError";
}

/** A message without line breaks and control characters, which names and quotations out of a file may hold. */
export function oneLine(message: string): string {
  return message.replaceAll(/[\p{Cc}\u2028\u2029]\s*/gu, " ");
}

/** Guards against our own mistakes; never for user input. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(`internal: ${message}`);
}

/** Throws a TypeError for the first key of `options` that is not in `known`, and names the nearest one. */
export function refuseUnknownKeys(where: string, options: object, known: readonly string[]): void {
  for (const key of Object.keys(options)) {
    if (known.includes(key)) continue;
    const nearest = nearestName(key, known);
    throw new TypeError(
      `${where}: unknown option "${key}". ${nearest ? `Did you mean "${nearest}"?` : `Known: ${known.join(", ")}.`}`,
    );
  }
}

/** The known name within two edits of `name` (Levenshtein 1966), if any. */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = 3;
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = previous[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      current.push(Math.min(substitution, previous[j]! + 1, current[j - 1]! + 1));
    }
    previous = current;
  }
  return previous[b.length]!;
}
