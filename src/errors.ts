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

/** The known name within two edits of `name` (Levenshtein 1966), if any. */
export function nearestName(name: string, known: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Math.min(3, name.length / 2); // of a short name too much would be guessed
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

/** Whether a parsed value is an object, neither null nor a list. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Writes a value for a message, cut short. */
export function describe(value: unknown): string {
  // JSON.parse takes any depth, JSON.stringify recurses: a hostile file must not get a stack overflow out of a message.
  if (Array.isArray(value) && value.some(isNested)) return `an array of ${value.length} values`;
  if (isObject(value) && Object.values(value).some(isNested)) return "an object";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

function isNested(value: unknown): boolean {
  return typeof value === "object" && value !== null;
}
