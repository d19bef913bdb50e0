/**
 * How tensors lie in files. `encoding` is the file's word (GGUF's or safetensors' name); `dtype` (tensor/dtype.ts) is
 * ours for how a weight lies in the backend's memory.
 */
export type Encoding = "F32" | "F16" | "BF16" | "Q8_0" | "Q4_0" | "Q4_1" | "Q5_0" | "Q5_1" | "Q4_K" | "Q5_K" | "Q6_K";

/** Elements in a block and the bytes that the block takes; a row must hold whole blocks. */
export const blockLayout: Readonly<Record<Encoding, { readonly elements: number; readonly bytes: number }>> = {
  F32: { elements: 1, bytes: 4 },
  F16: { elements: 1, bytes: 2 },
  BF16: { elements: 1, bytes: 2 },
  Q8_0: { elements: 32, bytes: 34 },
  Q4_0: { elements: 32, bytes: 18 },
  Q4_1: { elements: 32, bytes: 20 },
  Q5_0: { elements: 32, bytes: 22 },
  Q5_1: { elements: 32, bytes: 24 },
  Q4_K: { elements: 256, bytes: 144 },
  Q5_K: { elements: 256, bytes: 176 },
  Q6_K: { elements: 256, bytes: 210 },
};

/** Bytes of one row of `cols` elements. */
export function rowBytes(encoding: Encoding, cols: number): number {
  const { elements, bytes } = blockLayout[encoding];
  return Math.ceil(cols / elements) * bytes;
}
