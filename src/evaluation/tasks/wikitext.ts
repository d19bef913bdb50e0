/** WikiText-2 (Merity et al. 2016, arXiv:1609.07843), in its two perplexities. They are different numbers. */
import { space, strip } from "../python.ts";
import { createRow, type Row } from "../row.ts";
import { defineTask, type RollingTask } from "../task.ts";

const raw = ["wikitext2/wiki.test.raw", "wiki.test.raw"];

/** The harness's perplexity: page by page, detokenised, per word and byte of the original. */
export const wikitext: RollingTask = defineTask({
  name: "wikitext",
  version: 2,
  kind: "rolling",
  data: {
    names: ["wikitext", ...raw],
    hub: { dataset: "EleutherAI/wikitext_document_level", config: "wikitext-2-raw-v1", split: "test" },
  },
  windows: "rolling",
  prepare: (rows) => rows.flatMap((row) => (row.has("page") ? row : cutPages(row))),
  document: (row) => ({ text: detokenise(row.text("page")), original: row.text("page") }),
});

/** The perplexity of MobileLLM's eval.py, which is GPTQ's and AWQ's: per token, over windows of the whole text. */
export const wikitextTokens: RollingTask = defineTask({
  name: "wikitext2_token_ppl",
  version: 1,
  kind: "rolling",
  data: {
    names: [...raw, "wikitext2"],
    hub: { dataset: "Salesforce/wikitext", config: "wikitext-2-raw-v1", split: "test" },
  },
  windows: "chunks",
  prepare: (rows) => [createRow({ text: rows.flatMap(readLines).join("\n\n") }, rows[0]?.where ?? "wikitext2")],
  document: (row) => ({ text: row.text("text") }),
});

/** The Hub's rows: a line each, with its line break, and "" for a line of spaces. */
function readLines(row: Row): string[] {
  const lines = row.text("text").match(/[^\n]*\n|[^\n]+$/g) ?? [""];
  return lines.map((line) => (line.trim() === "" ? "" : line));
}

/** Cuts a text as document-level files are made: a page begins at a title, ` = Title = `, and the line break before that is nobody's. */
function cutPages(row: Row): Row[] {
  let page: string[] = [];
  const pages = [page];
  for (const line of row.text("text").split("\n")) {
    const heading = strip(line.replaceAll("= = =", "===").replaceAll("= =", "=="));
    if (heading.startsWith("= ") && heading.endsWith(" =")) pages.push((page = []));
    page.push(line);
  }
  const texts = pages.map((lines) => lines.join("\n")).filter((page) => strip(page) !== "");
  return texts.map((page, i) => createRow({ page }, `${row.where}, page ${i + 1}`));
}

/** What stands in brackets and quotes, without the spaces at their ends. */
const enclosed = [
  ["\\(", "\\)"],
  ["\\[", "\\]"],
  ["\\{", "\\}"],
  ['"', '"'],
  ["'", "'"],
].map(([open, close]) => new RegExp(`(${open})[${space}]*([^${close}]*?)[${space}]*(${close})`, "g"));

/** The harness's wikitext_detokenizer, step for step. */
function detokenise(page: string): string {
  let text = page
    .replaceAll("s '", "s'")
    .replaceAll(/\/' [0-9]\//g, "/'[0-9]/") // the original's slip: its slashes are literal, and so is the replacement
    .replaceAll(" @-@ ", "-")
    .replaceAll(" @,@ ", ",")
    .replaceAll(" @.@ ", ".");
  for (const mark of ":;.!?,") text = text.replaceAll(` ${mark} `, `${mark} `);
  for (const pattern of enclosed) text = text.replaceAll(pattern, "$1$2$3");
  return text
    .replaceAll("= = = =", "====")
    .replaceAll("= = =", "===")
    .replaceAll("= =", "==")
    .replaceAll(" ° ", "°")
    .replaceAll(" \n", "\n")
    .replaceAll("\n ", "\n")
    .replaceAll(" N ", " 1 ")
    .replaceAll(" 's", "'s");
}
