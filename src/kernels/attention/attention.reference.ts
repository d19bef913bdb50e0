/**
 * Causal grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245): query row t, in cache row P + t, sees the rows of
 * its text up to its own; H / G query heads share a key/value head.  out = softmax(q·k / √D) · v.  The oracle: sums run in
 * f64.
 */
import { PLACE_WORDS, placesOf } from "../../tensor/places.ts";

/** The cache rows of the text that ends in `row`: all before it, or what `places` says. */
function textUpTo(row: number, places: Int32Array | undefined): number[] {
  if (!places) return Array.from({ length: row + 1 }, (_, j) => j);
  const rows: number[] = [];
  for (let end = row; end >= 0;) {
    const start = places[end * PLACE_WORDS + placesOf.start]!;
    const parent = places[end * PLACE_WORDS + placesOf.parent]!;
    for (let j = end; j >= start; j--) rows.unshift(j);
    end = parent;
  }
  return rows;
}

export function attention(
  out: Float32Array, // (T, H·D)
  q: Float32Array, // (T, H·D)
  keys: Float32Array, // (positions, G·D)
  values: Float32Array, // (positions, G·D)
  T: number,
  H: number,
  G: number,
  D: number,
  position: number, // P
  places?: Int32Array, // (positions, 3)
): void {
  for (let t = 0; t < T; t++) {
    const text = textUpTo(position + t, places);
    for (let h = 0; h < H; h++) {
      const query = (t * H + h) * D;
      const group = Math.floor(h / (H / G)) * D;
      const scores = text.map((j) => {
        let dot = 0;
        for (let d = 0; d < D; d++) dot += q[query + d]! * keys[j * G * D + group + d]!;
        return dot / Math.sqrt(D);
      });
      const largest = scores.reduce((a, b) => Math.max(a, b));
      const weights = scores.map((score) => Math.exp(score - largest));
      const sum = weights.reduce((a, b) => a + b);
      for (let d = 0; d < D; d++) {
        let mix = 0;
        for (const [i, j] of text.entries()) mix += weights[i]! * values[j * G * D + group + d]!;
        out[query + d] = mix / sum;
      }
    }
  }
}
