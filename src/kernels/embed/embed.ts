/** Rows of a table by token id (embed.reference.ts), and the table's gradient. */
import { declare } from "../operation.ts";
import * as gradients from "./embed-gradient.reference.ts";
import * as forward from "./embed.reference.ts";

/** Rows of `table` (V, C) → (T, C). */
export const embed = declare({
  name: "embed",
  operands: { y: "out", tokens: "ids", table: "in" },
  settings: [],
  shape: ({ tokens, table }) => ({ y: { rows: tokens.rows, cols: table.cols } }),
  oracle: ({ y, tokens, table }, { rows, of }) => forward.embed(y, tokens, table, rows, of.table.cols),
  gradient({ tokens, table }, _, dy, tape) {
    const dTable = tape.gradientOf(table);
    if (dTable) tape.record(embedBack, { dTable, tokens, dy });
  },
  flops: () => 0,
  kernel: {
    file: "embed/embed",
    sizes: { C: ({ y }) => y.cols, form: ({ table }) => table.form },
    divide: { share: ["rows"] },
  },
});

/** dTable[token] += dy. */
export const embedBack = declare({
  name: "embedBack",
  operands: { dTable: "inout", tokens: "ids", dy: "in" },
  settings: [],
  shape: () => ({}),
  oracle: ({ dTable, tokens, dy }, { of, rowsOf }) =>
    gradients.embedBack(dTable, tokens, dy, rowsOf(of.dy), of.dy.cols),
  flops: ({ dy }, rows) => rows * dy.cols,
  kernel: {
    file: "embed/embed-gradient",
    rowsOf: "dy",
    sizes: { C: ({ dy }) => dy.cols },
    runtime: ["rows"],
    divide: { share: ["C"], run: 4 },
  },
});
