/** What all commands share: wrong usage, numbers on the command line, numbers for people. */
import { InvalidArgumentError } from "commander";

/** Wrong usage found after parsing; ends with exit status 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export function parseCount(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError("Expected a positive whole number.");
  return value;
}

/** `125M`, `5m`, `1.5B`, `300000`. */
export function parseQuantity(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([kmb]?)$/i.exec(text);
  const scale: Readonly<Record<string, number>> = { "": 1, k: 1e3, m: 1e6, b: 1e9 };
  const value = match ? Number(match[1]) * scale[match[2]!.toLowerCase()]! : Number.NaN;
  if (!(value > 0)) throw new InvalidArgumentError("Expected a number such as 5M, 125M or 1.5B.");
  return Math.round(value);
}

export function formatCount(value: number): string {
  return value.toLocaleString("en-US", { maximumFractionDigits: 0 });
}

export function formatShort(value: number): string {
  if (value >= 1e9) return `${(value / 1e9).toFixed(2)}B`;
  return value >= 1e6 ? `${(value / 1e6).toFixed(1)}M` : `${(value / 1e3).toFixed(1)}k`;
}

export function formatBytes(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(2)} GB`;
  return bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e3).toFixed(1)} kB`;
}

/** Columns of text; the first is flush left, the others right. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  "))
    .join("\n");
}
