import { describe } from "vitest";
import { cache } from "../../program/recorder.ts";
import { benchKernel } from "../../../test/support/kernel-bench.ts";

/** MobileLLM-125M: 9 query heads on 3 of keys and values, 64 wide. */
const [HEADS, KV_HEADS, HEAD] = [9, 3, 64];

describe.each([
  [1, 256],
  [1, 1900],
  [128, 128],
])("attention of %i rows", (tokens, position) => {
  benchKernel(`attention over a cache, ${tokens} rows at ${position}`, {
    tokens,
    position,
    record({ r, input }) {
      const width = KV_HEADS * HEAD;
      const keys = r.store({ cache: cache("keys", position + tokens, width), x: input(width) });
      const values = r.store({ cache: cache("values", position + tokens, width), x: input(width) });
      return r.attention({ q: input(HEADS * HEAD), keys, values, headSize: HEAD });
    },
  });
});

describe("attention within a sequence", () => {
  benchKernel("attention within a sequence of 256", {
    tokens: 256,
    record: ({ r, input }) =>
      r.attention({
        q: input(HEADS * HEAD),
        keys: input(KV_HEADS * HEAD),
        values: input(KV_HEADS * HEAD),
        headSize: HEAD,
      }),
  });
});
