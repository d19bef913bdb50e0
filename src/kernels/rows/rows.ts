/** Rows from one matrix to another (rows.reference.ts). */
import { declare, mustFit } from "../operation.ts";
import * as oracles from "./rows.reference.ts";

/** Writes rows into a cache: at P, P + 1, …, or at `slots`. */
export const store = declare({
  name: "store",
  operands: { cache: "inout", x: "in", slots: "ids?" },
  settings: [],
  shape({ cache, x }) {
    mustFit("store", "the cache must be as wide as x", x, cache, x.cols === cache.cols);
    return {};
  },
  oracle({ cache, x, slots }, { of, rowsOf, numbers: { position } }) {
    oracles.store(cache, x, rowsOf(of.x), of.x.cols, (t) => slots?.[t] ?? position + t);
  },
  flops: () => 0,
  kernel: {
    name: "storeRows",
    file: "rows/rows",
    rowsOf: "x",
    sizes: { C: ({ x }) => x.cols },
    runtime: ["position"],
    divide: { share: ["rows"] },
  },
});

/** N of T rows, by index. */
export const pick = declare({
  name: "pick",
  operands: { y: "out", x: "in", rows: "ids" },
  settings: [],
  shape: ({ x, rows }) => ({ y: { rows: rows.rows, cols: x.cols } }),
  oracle: ({ y, x, rows }, { rows: count, of }) => oracles.pick(y, x, rows, count, of.x.cols),
  flops: () => 0,
  kernel: { name: "pickRows", file: "rows/rows", sizes: { C: ({ x }) => x.cols }, divide: { share: ["rows"] } },
});
