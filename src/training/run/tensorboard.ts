/**
 * TensorBoard's event files, written by hand: TFRecord frames (tensorflow/core/lib/io/record_writer.h) around protobuf
 * Event messages (tensorflow/core/util/event.proto, framework/summary.proto), of which scalars and texts need a dozen fields.
 */
import type { MetricsRecord } from "./metrics.ts";

/** Encodes the first record of a file. @param time in milliseconds since 1970. */
export function encodeFileVersion(time: number): Uint8Array {
  return frame(join([double(1, time / 1000), bytes(3, utf8("brain.Event:2"))]));
}

/** Encodes the events that a line of the metrics becomes; none for the start and the end of a run. */
export function encodeEvents(record: MetricsRecord): Uint8Array {
  const values = summaryValues(record);
  if (values.length === 0) return new Uint8Array(0);
  const summary = join(values.map((value) => bytes(1, value)));
  return frame(join([double(1, record.time / 1000), varintField(2, record.step), bytes(5, summary)]));
}

function summaryValues(record: MetricsRecord): Uint8Array[] {
  switch (record.kind) {
    case "step":
      return [
        scalar("train/loss", record.loss),
        scalar("train/learning_rate", record.learningRate),
        scalar("train/gradient_norm", record.gradientNorm),
        scalar("train/tokens_per_second", record.tokensPerSecond),
        scalar("train/utilisation", record.utilisation),
      ];
    case "heldOut":
      return [scalar("held_out/loss", record.loss), scalar("held_out/bits_per_byte", record.bitsPerByte)];
    case "sample": {
      const how = record.temperature === 0 ? "greedy" : `temperature ${record.temperature}`;
      return [textValue(`sample/${record.prompt} (${how})`, `**${record.prompt}**${record.text}`)];
    }
    case "start":
    case "end":
      return [];
  }
}

/** Summary.Value { tag = 1, simple_value = 2 }. */
function scalar(tag: string, value: number): Uint8Array {
  return join([bytes(1, utf8(tag)), float(2, value)]);
}

/**
 * Summary.Value { tag = 1, tensor = 8, metadata = 9 }; TensorProto { dtype = 1: DT_STRING 7, shape = 2, string_val = 8 };
 * the metadata names the plugin that shows it.
 */
function textValue(tag: string, text: string): Uint8Array {
  const shapeOfOne = bytes(2, varintField(1, 1)); // TensorShapeProto { dim = 2 { size = 1 } }
  const tensor = join([varintField(1, 7), bytes(2, shapeOfOne), bytes(8, utf8(text))]);
  const metadata = bytes(1, bytes(1, utf8("text"))); // SummaryMetadata { plugin_data = 1 { plugin_name = 1 } }
  return join([bytes(1, utf8(tag)), bytes(8, tensor), bytes(9, metadata)]);
}

/** Length (8 bytes), its masked crc, the data, their masked crc; little-endian. */
function frame(data: Uint8Array): Uint8Array {
  const framed = new Uint8Array(data.length + 16);
  const view = new DataView(framed.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, maskedCrc(framed.subarray(0, 8)), true);
  framed.set(data, 12);
  view.setUint32(12 + data.length, maskedCrc(data), true);
  return framed;
}

/** CRC-32C (Castagnoli), reflected; rotated and offset so that a crc of bytes that hold crcs stays a good one. */
function maskedCrc(data: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of data) crc = crcTable[(crc ^ byte) & 0xff]! ^ (crc >>> 8);
  crc = ~crc >>> 0;
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

const crcTable = Uint32Array.from({ length: 256 }, (_, n) => {
  let crc = n;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

// Protobuf: a field is its number and wire type (0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes), then the value.

/** Protobuf's own writers leave out what is 0. */
function varintField(field: number, value: number): Uint8Array {
  return value === 0 ? new Uint8Array(0) : join([varint(field << 3), varint(value)]);
}

function bytes(field: number, value: Uint8Array): Uint8Array {
  return join([varint((field << 3) | 2), varint(value.length), value]);
}

function double(field: number, value: number): Uint8Array {
  const out = new Uint8Array(9);
  out[0] = (field << 3) | 1;
  new DataView(out.buffer).setFloat64(1, value, true);
  return out;
}

function float(field: number, value: number): Uint8Array {
  const out = new Uint8Array(5);
  out[0] = (field << 3) | 5;
  new DataView(out.buffer).setFloat32(1, value, true);
  return out;
}

/** @param value a whole number from 0 on. */
function varint(value: number): Uint8Array {
  const out: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) out.push((rest % 0x80) | 0x80);
  return Uint8Array.from([...out, rest]);
}

function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}
