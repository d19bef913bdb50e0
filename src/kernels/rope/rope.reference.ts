/**
 * Rotary positions (Su et al. 2021, arXiv:2104.09864) in Hugging Face's "rotate half" order: in each head the pair
 * (i, i + D/2) turns by the angle of its position. The oracle.
 */
import { PLACE_WORDS, placesOf } from "../../tensor/places.ts";
import type { Floats } from "../floats.ts";

/** Where rows stand: in sequences of `length` rows from P on, or where `places` (positions, 3) says of cache row `slots[t]`. */
export function positions(
  P: number,
  length: number,
  slots: Int32Array | undefined, // (T)
  places: Int32Array | undefined,
): (t: number) => number {
  if (!slots || !places) return (t) => P + (t % length);
  return (t) => places[slots[t]! * PLACE_WORDS + placesOf.position]!;
}

export function rope(
  y: Floats, // (T, C)
  x: Floats, // (T, C), C = H·D
  angles: Floats, // (positions, D): D/2 cosines, D/2 sines
  T: number,
  C: number,
  D: number,
  positionOf: (t: number) => number,
  isInverse: boolean, // turn back
): void {
  const half = D / 2;
  for (let t = 0; t < T; t++) {
    const at = positionOf(t);
    for (let head = t * C; head < (t + 1) * C; head += D) {
      for (let i = 0; i < half; i++) {
        const cos = angles[at * D + i]!;
        const sin = angles[at * D + half + i]! * (isInverse ? -1 : 1);
        const a = x[head + i]!;
        const b = x[head + half + i]!;
        y[head + i] = a * cos - b * sin;
        y[head + half + i] = b * cos + a * sin;
      }
    }
  }
}
