/** Turns the kernels' layout (pack.ts) back into rows of f32. */
import { type Dtype, GROUP, ROW_BLOCK } from "./dtype.ts";
import { bf16ToF32, f16ToF32 } from "./float16.ts";

/** All `rows` of a packed weight into `out` (rows, cols). */
export function unpackRows(dtype: Dtype, packed: Uint8Array, rows: number, cols: number, out: Float32Array): void {
  const view = new DataView(packed.buffer, packed.byteOffset, packed.byteLength);
  const groups = Math.ceil(cols / GROUP);
  for (let row = 0; row < rows; row++) {
    const lane = row % ROW_BLOCK;
    const block = Math.floor(row / ROW_BLOCK) * groups;
    for (let c = 0; c < cols; c++) {
      const number = (Math.floor(row / ROW_BLOCK) * cols + c) * ROW_BLOCK + lane; // f32 and bf16
      out[row * cols + c] = valueAt(number, block + Math.floor(c / GROUP), lane, c % GROUP);
    }
  }

  function valueAt(number: number, group: number, lane: number, i: number): number {
    switch (dtype) {
      case "f32":
        return view.getFloat32(number * 4, true);
      case "bf16":
        return bf16ToF32(view.getUint16(number * 2, true));
      case "q8": {
        const at = group * 272;
        return (
          f16ToF32(view.getUint16(at + lane * 2, true)) * view.getInt8(at + 16 + (i >> 1) * 16 + lane * 2 + (i & 1))
        );
      }
      case "q4": {
        const at = group * 160;
        const pair = i >> 1;
        const word = view.getUint16(at + 32 + (pair >> 2) * 32 + (lane >> 2) * 16 + (lane & 3) * 4 + (i & 1) * 2, true);
        const scale = f16ToF32(view.getUint16(at + lane * 2, true));
        const minimum = f16ToF32(view.getUint16(at + 16 + lane * 2, true));
        return scale * ((word >> (4 * (pair & 3))) & 15) + minimum;
      }
    }
  }
}
