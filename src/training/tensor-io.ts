/** Tensors that lie row by row, out of a device and into it. */
import type { Machine } from "../backends/backend.ts";
import { fixedCount, fixedRows } from "../kernels/operation.ts";
import { piecesOf } from "../model/load.ts";
import { bytesOf } from "../tensor/bytes.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** Values pass in pieces, so that no copy of a whole matrix is on its way to the worker. */
const PIECE = 1 << 20;

/** Writes all numbers of a weight, however it lies. */
export async function uploadTensor(machine: Machine, weight: Tensor, values: Float32Array): Promise<void> {
  for (const { start, count } of piecesOf(fixedRows(weight), weight.cols * 4, machine.uploadStep)) {
    const piece = values.slice(start * weight.cols, (start + count) * weight.cols);
    await machine.upload(weight, start, count, "F32", new Uint8Array(piece.buffer));
  }
}

/** Writes all numbers of a tensor. */
export async function writeTensor(machine: Machine, tensor: Tensor, values: Float32Array): Promise<void> {
  const bytes = bytesOf(values);
  for (let at = 0; at < bytes.length; at += PIECE) await machine.write(tensor, at, bytes.subarray(at, at + PIECE));
}

/** Copies all numbers of a tensor. */
export async function readTensor(machine: Machine, tensor: Tensor): Promise<Float32Array> {
  const values = new Float32Array(fixedCount(tensor));
  const bytes = bytesOf(values);
  for (let at = 0; at < bytes.length; at += PIECE) {
    bytes.set(await machine.read(tensor, at, Math.min(PIECE, bytes.length - at)), at);
  }
  return values;
}
