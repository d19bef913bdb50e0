/**
 * llama.cpp turns neighbouring elements (2i, 2i + 1) of a head together; Hugging Face's Llama turns i with i + D/2. So that
 * both compute the same, GGUF files hold the rows of q_proj and k_proj in the order 0, D/2, 1, D/2 + 1, … of each head.
 */
import { ShapeError } from "../../errors.ts";
import { rowBytes } from "../../tensor/encoding.ts";
import { readTensor, type TensorEntry } from "../checkpoint.ts";

/**
 * GGUF's row order to Hugging Face's. `bytes` holds `rows` rows of `rowBytes` bytes, `heads` heads of equal size; what
 * comes of them goes into `moved`, which must be as long and lie elsewhere.
 */
export function restoreRotaryRows(
  bytes: Uint8Array,
  rowBytes: number,
  rows: number,
  heads: number,
  moved: Uint8Array<ArrayBuffer> = new Uint8Array(bytes.length),
): Uint8Array<ArrayBuffer> {
  return moveRows("restoreRotaryRows", bytes, rowBytes, rows, heads, false, moved);
}

/** A whole tensor with its rows in Hugging Face's order. */
export async function readHfTensor(entry: TensorEntry): Promise<Uint8Array> {
  const bytes = await readTensor(entry);
  if (entry.rotaryHeads === undefined) return bytes;
  const stride = rowBytes(entry.encoding, entry.shape.at(-1)!);
  return restoreRotaryRows(bytes, stride, bytes.length / stride, entry.rotaryHeads);
}

/** Hugging Face's row order to GGUF's: the inverse of `restoreRotaryRows`. */
export function interleaveRotaryRows(bytes: Uint8Array, rowBytes: number, rows: number, heads: number): Uint8Array {
  return moveRows("interleaveRotaryRows", bytes, rowBytes, rows, heads, true, new Uint8Array(bytes.length));
}

function moveRows(
  where: string,
  bytes: Uint8Array,
  rowBytes: number,
  rows: number,
  heads: number,
  interleave: boolean,
  moved: Uint8Array<ArrayBuffer>,
): Uint8Array<ArrayBuffer> {
  if (rows % (2 * heads) !== 0) {
    throw new ShapeError(`${where}: rows must divide into ${heads} heads of an even size, got ${rows}.`);
  }
  if (bytes.length !== rows * rowBytes) {
    throw new ShapeError(`${where}: ${rows} rows of ${rowBytes} bytes were expected, got ${bytes.length} bytes.`);
  }
  const pairs = rows / heads / 2;
  for (let head = 0; head < heads; head++) {
    for (let pair = 0; pair < pairs; pair++) {
      for (let side = 0; side < 2; side++) {
        const split = (head * 2 + side) * pairs + pair;
        const interleaved = (head * pairs + pair) * 2 + side;
        const [from, to] = interleave ? [split, interleaved] : [interleaved, split];
        moved.set(bytes.subarray(from * rowBytes, (from + 1) * rowBytes), to * rowBytes);
      }
    }
  }
  return moved;
}
