/**
 * Rotary positions (Su et al. 2021, arXiv:2104.09864) in Hugging Face's "rotate half" order: in each head the pair
 * (i, i + D/2) turns by the angle of its position. The oracle.
 */
import { PLACE_WORDS, placesOf } from "../../tensor/places.ts";
import type { Floats } from "../floats.ts";

export function rope(
  y: Floats, // (T, C)
  x: Floats, // (T, C), C = H·D
  angles: Floats, // (positions, D): D/2 cosines, D/2 sines
  T: number,
  C: number,
  D: number,
  position: number, // of a sequence's first row
  length: number, // rows of a sequence
  isInverse: boolean, // turn back
  places?: Int32Array, // (positions, 3)
): void {
  const half = D / 2;
  for (let t = 0; t < T; t++) {
    const at = places ? places[(position + t) * PLACE_WORDS + placesOf.position]! : position + (t % length);
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
