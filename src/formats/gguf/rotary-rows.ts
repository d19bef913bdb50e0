/**
 * llama.cpp turns neighbouring elements (2i, 2i + 1) of a head together; Hugging Face's Llama turns i with i + D/2. So that
 * both compute the same, GGUF files hold the rows of q_proj and k_proj in the order 0, D/2, 1, D/2 + 1, … of each head.
 * Nobody outside this folder meets that order: what is read comes in Hugging Face's, and so is what is given to be written.
 */
import type { ByteSource } from "../bytes.ts";

/** A matrix of whole heads: the size of a row in bytes, and the rows of a head, which are even in number. */
export type RotaryMatrix = { readonly rowBytes: number; readonly headRows: number };

/** GGUF's number of a row that Hugging Face numbers `row`. */
function ggufRow(row: number, headRows: number): number {
  const inHead = row % headRows;
  const pairs = headRows / 2;
  return row - inHead + 2 * (inHead % pairs) + Math.floor(inHead / pairs);
}

/**
 * A source that gives the rows of a matrix, whose first byte is `start`, in Hugging Face's order. It reads nothing but
 * that matrix, from any byte of it, a head at a time.
 */
export function restoreRotaryRows(source: ByteSource, start: number, { rowBytes, headRows }: RotaryMatrix): ByteSource {
  const headBytes = headRows * rowBytes;
  return {
    name: source.name,
    size: source.size,
    async read(offset, into) {
      const from = offset - start;
      const to = from + into.length;
      const head = new Uint8Array(headBytes);
      for (let headAt = from - (from % headBytes); headAt < to; headAt += headBytes) {
        await source.read(start + headAt, head);
        for (let row = 0; row < headRows; row++) {
          const rowAt = headAt + row * rowBytes;
          const skipped = Math.max(0, from - rowAt);
          const length = Math.min(rowBytes, to - rowAt) - skipped;
          if (length <= 0) continue;
          const stored = ggufRow(row, headRows) * rowBytes + skipped;
          into.set(head.subarray(stored, stored + length), rowAt + skipped - from);
        }
      }
    },
  };
}

/** A matrix's rows from Hugging Face's order into GGUF's. */
export function interleaveRotaryRows(bytes: Uint8Array, { rowBytes, headRows }: RotaryMatrix): Uint8Array {
  const interleaved = new Uint8Array(bytes.length);
  for (let row = 0; row * rowBytes < bytes.length; row++) {
    interleaved.set(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), ggufRow(row, headRows) * rowBytes);
  }
  return interleaved;
}
