import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import type { MetricsRecord } from "./metrics.ts";
import { encodeEvents, encodeFileVersion } from "./tensorboard.ts";

test("event files are, byte for byte, what TensorBoard's own writer makes", async () => {
  const file = await readFile("test/fixtures/tensorboard/events.json", "utf8");
  const { records, events } = JSON.parse(file) as { records: MetricsRecord[]; events: string };
  const parts = [encodeFileVersion(records[0]!.time), ...records.map(encodeEvents)];
  expect(Buffer.concat(parts).toString("base64")).toBe(events);
});
