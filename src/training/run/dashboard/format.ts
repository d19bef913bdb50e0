/** Numbers for people, on the page and in the terminal. */

/** Writes a time: `7 s`, `12 min`, `3 h 5 min`, `2 d 4 h`. */
export function formatDuration(ms: number): string {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return `${Math.round(ms / 1000)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 24 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Writes a number in three or four digits, with a prefix for large numbers and before a unit: `12.3k`, `410 GFLOP/s`; `1.2e-5`. */
export function formatNumber(value: number, unit = ""): string {
  const size = Math.abs(value);
  const [scale, prefix] = prefixes.find(([limit]) => size >= limit) ?? [1, ""];
  const digits =
    size >= 1e-4 || size === 0 ? trim((value / scale).toPrecision(scale === 1 ? 4 : 3)) : exponential(value);
  return `${digits}${unit === "" ? "" : " "}${prefix}${unit}`;
}

const prefixes = [
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
] as const;

function trim(digits: string): string {
  return digits.includes(".") ? digits.replace(/\.?0+$/, "") : digits;
}

function exponential(value: number): string {
  const [digits, power] = value.toExponential(2).split("e") as [string, string];
  return `${trim(digits)}e${power}`;
}
