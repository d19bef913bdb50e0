/** How a weight lies in a backend's memory (DESIGN: numbers and their layouts). */
export const dtypes = ["f32", "bf16", "q8", "q4"] as const;
export type Dtype = (typeof dtypes)[number];

/** Quantized weights share a scale between this many neighbours along the input dimension. */
export const GROUP = 32;

/** Rows that are interleaved, so that a SIMD lane belongs to a row (tensor/pack.ts). */
export const ROW_BLOCK = 8;

/** Bytes that a matrix of `rows` × `cols` takes in a backend's memory, in blocks of 8 rows. */
export function packedBytes(dtype: Dtype, rows: number, cols: number): number {
  const padded = Math.ceil(rows / ROW_BLOCK) * ROW_BLOCK;
  const groups = padded * Math.ceil(cols / GROUP);
  switch (dtype) {
    case "f32":
      return padded * cols * 4;
    case "bf16":
      return padded * cols * 2;
    case "q8":
      return groups * (GROUP + 2); // 8-bit values and an f16 scale
    case "q4":
      return groups * (GROUP / 2 + 4); // 4-bit values, an f16 scale and an f16 minimum
  }
}
