/**
 * Reads Hugging Face's tokenizer.json with a BPE model: GPT-2's byte level and its heirs, and Llama 2's byte fallback.
 * `@huggingface/tokenizers` 0.2 gives the same ids, at a tenth of the speed.
 */
import { FormatError } from "../errors.ts";
import type { AddedToken } from "./added-tokens.ts";
import { createBpeEncoder } from "./bpe-tokenizer.ts";
import { byteLevelBytes } from "./byte-level.ts";
import { isRecord, record, show, unsupported, type Json } from "./json-checks.ts";
import type { TokenizerParts } from "./parts.ts";
import { SPACE } from "./sentencepiece.ts";
import {
  addedTokensOf,
  chatTemplateOf,
  namedToken,
  readAddedToken,
  templateVariables,
  type TokenizerConfig,
} from "./tokenizer-config.ts";
import { mentions, readDecoder, readNormalizer, readPreTokenizer } from "./tokenizer-json-steps.ts";

/** The largest vocabularies in use have 262,144 entries. */
const MAX_VOCABULARY = 1_048_576;

/** Reads tokenizer.json. @throws {FormatError} if it is no JSON, lacks a part, or uses one that is not supported. */
export function readTokenizerJson(bytes: Uint8Array, config: TokenizerConfig, name = "tokenizer.json"): TokenizerParts {
  const root = parse(bytes, name);
  const model = record(root["model"], "model", name);
  if ((model["type"] ?? "BPE") !== "BPE") throw unsupported("model", model["type"], name);
  for (const key of ["continuing_subword_prefix", "end_of_word_suffix"]) {
    if (model[key]) throw unsupported(`model.${key}`, model[key], name);
  }
  if (model["dropout"]) throw unsupported("model.dropout", model["dropout"], name);

  const vocabulary = readVocabulary(model["vocab"], name);
  const entries: (string | undefined)[] = [];
  for (const [entry, id] of vocabulary) entries[id] = entry;
  const added = readAddedTokens(root, config, name);
  const idOf = (content: string | undefined): number | undefined =>
    content === undefined
      ? undefined
      : (added.find((token) => token.content === content)?.id ?? vocabulary.get(content));

  const isByteLevel = mentions(root["pre_tokenizer"], "ByteLevel");
  const decoder = readDecoder(root["decoder"], name);
  const unknown = model["unk_token"];
  const encodeText = createBpeEncoder(
    {
      vocabulary,
      merges: readMerges(model["merges"], name),
      isByteLevel,
      hasByteFallback: model["byte_fallback"] === true,
      unknownId: typeof unknown === "string" ? idOf(unknown) : undefined,
      fusesUnknown: model["fuse_unk"] === true,
      ignoresMerges: model["ignore_merges"] === true,
    },
    readNormalizer(root["normalizer"], name),
    readPreTokenizer(root["pre_tokenizer"], name),
    added,
    name,
  );

  const templateBos = templateStart(root["post_processor"]);
  const bosToken = idOf(namedToken(config, "bos_token")) ?? templateBos;
  const eosToken = idOf(namedToken(config, "eos_token"));
  const says = config["add_bos_token"];
  const utf8 = new TextEncoder();
  const addedById = new Map(added.map((token) => [token.id, token.content]));
  const cache: (Uint8Array | undefined)[] = [];
  return {
    name,
    vocabSize: Math.max(entries.length, ...added.map((token) => token.id + 1)),
    tokenBytes(token) {
      const known = cache[token];
      if (known !== undefined) return known;
      const content = addedById.get(token);
      const entry = content ?? entries[token];
      if (entry === undefined) return undefined;
      const made = decoder.isByteLevel ? byteLevelBytes(entry) : fallbackBytes(entry, content !== undefined, utf8);
      cache[token] = made;
      return made;
    },
    encodeText,
    specialTokens: new Set(added.filter((token) => token.isSpecial).map((token) => token.id)),
    bosToken,
    eosTokens: eosToken === undefined ? [] : [eosToken],
    addsBos: bosToken !== undefined && (typeof says === "boolean" ? says : templateBos !== undefined),
    dropsFirstSpace: decoder.dropsFirstSpace,
    isReplacedPerByte: !decoder.isByteLevel,
    chatTemplate: chatTemplateOf(config),
    templateVariables: templateVariables(config),
  };
}

function fallbackBytes(entry: string, isAdded: boolean, utf8: TextEncoder): Uint8Array {
  const match = isAdded ? null : /^<0x([0-9A-Fa-f]{2})>$/.exec(entry);
  return match ? Uint8Array.of(Number.parseInt(match[1]!, 16)) : utf8.encode(entry.replaceAll(SPACE, " "));
}

function parse(bytes: Uint8Array, name: string): Json {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new FormatError(`${name}: valid JSON is required: ${reason}. Download it again.`, { cause });
  }
  return record(value, "the file", name);
}

function readVocabulary(value: unknown, name: string): Map<string, number> {
  const entries = Object.entries(record(value, "model.vocab", name));
  for (const [entry, id] of entries) {
    if (typeof id !== "number" || !Number.isInteger(id) || id < 0 || id >= MAX_VOCABULARY) {
      throw new FormatError(`${name}: model.vocab: ${show(entry)} needs an id below ${MAX_VOCABULARY}.`);
    }
  }
  return new Map(entries as [string, number][]);
}

/** Pairs are written as `"a b"` or, since 2024, as `["a", "b"]`. */
function readMerges(value: unknown, name: string): [string, string][] {
  if (!Array.isArray(value)) throw new FormatError(`${name}: model.merges must be a list, got ${show(value)}.`);
  return value.map((merge: unknown, index) => {
    const pair: unknown[] = typeof merge === "string" ? merge.split(" ") : Array.isArray(merge) ? merge : [];
    const [left, right] = pair;
    if (pair.length !== 2 || typeof left !== "string" || typeof right !== "string") {
      throw new FormatError(`${name}: merge ${index} must be a pair of strings, got ${show(merge)}.`);
    }
    return [left, right];
  });
}

function readAddedTokens(root: Json, config: TokenizerConfig, name: string): AddedToken[] {
  const byId = new Map<number, AddedToken>();
  const listed = root["added_tokens"] ?? [];
  if (!Array.isArray(listed)) throw new FormatError(`${name}: added_tokens must be a list.`);
  for (const [index, entry] of listed.entries()) {
    const token = readAddedToken(entry, isRecord(entry) ? entry["id"] : undefined);
    if (!token) throw new FormatError(`${name}: added_tokens[${index}] needs a content and an id.`);
    byId.set(token.id, token);
  }
  for (const token of addedTokensOf(config)) if (!byId.has(token.id)) byId.set(token.id, token);
  for (const id of byId.keys()) {
    if (id >= MAX_VOCABULARY) throw new FormatError(`${name}: added token id ${id} is not below ${MAX_VOCABULARY}.`);
  }
  return [...byId.values()];
}

/** The special token that a TemplateProcessing post-processor puts in front of one text. */
function templateStart(value: unknown): number | undefined {
  if (!isRecord(value)) return undefined;
  if (value["type"] === "Sequence" && Array.isArray(value["processors"])) {
    return value["processors"].map(templateStart).find((id) => id !== undefined);
  }
  const first: unknown = Array.isArray(value["single"]) ? value["single"][0] : undefined;
  if (value["type"] !== "TemplateProcessing" || !isRecord(first) || !isRecord(first["SpecialToken"])) return undefined;
  const tokens = value["special_tokens"];
  const entry = isRecord(tokens) ? tokens[String(first["SpecialToken"]["id"])] : undefined;
  const id: unknown = isRecord(entry) && Array.isArray(entry["ids"]) ? entry["ids"][0] : undefined;
  return typeof id === "number" ? id : undefined;
}
