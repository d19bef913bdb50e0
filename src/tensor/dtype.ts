/** How a weight lies in a backend's memory (DESIGN: numbers and their layouts). */
export const dtypes = ["f32", "bf16", "q8", "q4"] as const;
export type Dtype = (typeof dtypes)[number];

/** Quantized weights share a scale between this many neighbours along the input dimension. */
export const GROUP = 32;

/** Rows whose quantized groups are interleaved, so that a SIMD lane belongs to a row (tensor/pack.ts). */
export const ROW_BLOCK = 8;

/** Bytes that a weight of `rows` × `cols` takes in a backend's memory. */
export function packedBytes(dtype: Dtype, rows: number, cols: number): number {
  const groups = Math.ceil(rows / ROW_BLOCK) * ROW_BLOCK * Math.ceil(cols / GROUP);
  switch (dtype) {
    case "f32":
      return rows * cols * 4;
    case "bf16":
      return rows * cols * 2;
    case "q8":
      return groups * (GROUP + 2); // 8-bit values and an f16 scale
    case "q4":
      return groups * (GROUP / 2 + 4); // 4-bit values, an f16 scale and an f16 minimum
  }
}
