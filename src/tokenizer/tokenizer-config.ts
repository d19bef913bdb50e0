/** What tokenizer_config.json says, in any of the forms transformers has written over the years. */
import type { AddedToken } from "./added-tokens.ts";
import { isRecord } from "./json-checks.ts";

/** Parsed tokenizer_config.json. */
export type TokenizerConfig = Readonly<Record<string, unknown>>;

/** Reads bos_token and the like: a string, or an object with `content`; undefined if there is none. */
export function namedToken(config: TokenizerConfig, key: string): string | undefined {
  const value = config[key];
  if (typeof value === "string") return value;
  if (isRecord(value) && typeof value["content"] === "string") return value["content"];
  return undefined;
}

/** Gives the variables that transformers gives a chat template besides the messages. */
export function templateVariables(config: TokenizerConfig): Record<string, string> {
  const variables: Record<string, string> = {};
  for (const key of ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"]) {
    const content = namedToken(config, key);
    if (content !== undefined) variables[key] = content;
  }
  return variables;
}

/** Reads `chat_template`: a string, or a list of named ones of which `default` counts. */
export function chatTemplateOf(config: TokenizerConfig): string | undefined {
  const value = config["chat_template"];
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return undefined;
  for (const entry of value) {
    if (isRecord(entry) && entry["name"] === "default" && typeof entry["template"] === "string") {
      return entry["template"];
    }
  }
  return undefined;
}

/** Reads `added_tokens_decoder`, which holds tokens by id. */
export function addedTokensOf(config: TokenizerConfig): AddedToken[] {
  const decoder = config["added_tokens_decoder"];
  if (!isRecord(decoder)) return [];
  return Object.entries(decoder).flatMap(([id, entry]) => {
    const token = readAddedToken(entry, Number(id));
    return token ? [token] : [];
  });
}

/** Reads an added token; undefined unless the entry has a text and the id is a whole number. */
export function readAddedToken(entry: unknown, id: unknown): AddedToken | undefined {
  if (!isRecord(entry) || typeof entry["content"] !== "string") return undefined;
  if (typeof id !== "number" || !Number.isSafeInteger(id) || id < 0) return undefined;
  return {
    id,
    content: entry["content"],
    isSpecial: entry["special"] === true,
    isNormalized: entry["normalized"] === true,
    isSingleWord: entry["single_word"] === true,
    stripsLeft: entry["lstrip"] === true,
    stripsRight: entry["rstrip"] === true,
  };
}
