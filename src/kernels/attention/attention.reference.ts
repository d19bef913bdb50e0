/**
 * Causal grouped-query attention (Ainslie et al. 2023, arXiv:2305.13245): query row t, at position P + t, sees positions
 * 0 … P + t; H / G query heads share a key/value head.  out = softmax(q·k / √D) · v.  The oracle: sums run in f64.
 */
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
): void {
  for (let t = 0; t < T; t++) {
    const count = position + t + 1;
    for (let h = 0; h < H; h++) {
      const query = (t * H + h) * D;
      const group = Math.floor(h / (H / G)) * D;
      const scores = Array.from({ length: count }, (_, j) => {
        let dot = 0;
        for (let d = 0; d < D; d++) dot += q[query + d]! * keys[j * G * D + group + d]!;
        return dot / Math.sqrt(D);
      });
      const largest = scores.reduce((a, b) => Math.max(a, b));
      const weights = scores.map((score) => Math.exp(score - largest));
      const sum = weights.reduce((a, b) => a + b);
      for (let d = 0; d < D; d++) {
        let mix = 0;
        for (let j = 0; j < count; j++) mix += weights[j]! * values[j * G * D + group + d]!;
        out[query + d] = mix / sum;
      }
    }
  }
}
