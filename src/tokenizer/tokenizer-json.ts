/**
 * Reads Hugging Face's tokenizer.json with a BPE model: GPT-2's byte level and its heirs, and Llama 2's byte fallback.
 * `@huggingface/tokenizers` 0.2 gives the same ids, at a tenth of the speed.
 */
import { FormatError } from "../errors.ts";
import { createBpeEncoder, inSequence, splitBy, type PreTokenizer } from "./bpe-tokenizer.ts";
import { byteLevelBytes, GPT2_WORDS, translatePattern } from "./byte-level.ts";
import { escapeRegExp, type AddedToken } from "./added-tokens.ts";
import type { TokenizerParts } from "./parts.ts";
import { SPACE } from "./sentencepiece.ts";
import {
  addedTokensOf,
  chatTemplateOf,
  isRecord,
  namedToken,
  readAddedToken,
  templateVariables,
  type TokenizerConfig,
} from "./tokenizer-config.ts";

/** The largest vocabularies in use have 262,144 entries. */
const MAX_VOCABULARY = 1_048_576;

type Json = Readonly<Record<string, unknown>>;

/** @throws {FormatError} if the file is no JSON, lacks a part, or uses one that is not supported. */
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
      throw new FormatError(`${name}: model.vocab: ${JSON.stringify(entry)} needs an id below ${MAX_VOCABULARY}.`);
    }
  }
  return new Map(entries as [string, number][]);
}

/** Pairs are written as `"a b"` or, since 2024, as `["a", "b"]`. */
function readMerges(value: unknown, name: string): [string, string][] {
  if (!Array.isArray(value)) throw new FormatError(`${name}: model.merges must be a list, got ${typeof value}.`);
  return value.map((merge: unknown, index) => {
    const pair: unknown[] = typeof merge === "string" ? merge.split(" ") : Array.isArray(merge) ? merge : [];
    const [left, right] = pair;
    if (pair.length !== 2 || typeof left !== "string" || typeof right !== "string") {
      throw new FormatError(`${name}: merge ${index} must be a pair of strings, got ${JSON.stringify(merge)}.`);
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

function readNormalizer(value: unknown, name: string): (text: string) => string {
  if (value === null || value === undefined) return (text) => text;
  const normalizer = record(value, "normalizer", name);
  switch (normalizer["type"]) {
    case "Sequence": {
      const steps = list(normalizer["normalizers"], "normalizer", name).map((step) => readNormalizer(step, name));
      return (text) => steps.reduce((result, step) => step(result), text);
    }
    case "Prepend": {
      const prefix = text(normalizer["prepend"], "normalizer prepend", name);
      return (text) => (text === "" ? "" : prefix + text);
    }
    case "Replace": {
      const pattern = readPattern(normalizer["pattern"], name);
      const content = text(normalizer["content"], "normalizer content", name);
      return (text) => text.replace(pattern, () => content);
    }
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD": {
      const form = normalizer["type"];
      return (text) => text.normalize(form);
    }
    case "Lowercase":
      return (text) => text.toLowerCase();
    default:
      throw unsupported("normalizer", normalizer["type"], name);
  }
}

function readPreTokenizer(value: unknown, name: string): PreTokenizer {
  if (value === null || value === undefined) return (texts) => [...texts];
  const step = record(value, "pre_tokenizer", name);
  switch (step["type"]) {
    case "Sequence":
      return inSequence(
        list(step["pretokenizers"], "pre_tokenizer", name).map((inner) => readPreTokenizer(inner, name)),
      );
    case "Digits":
      return splitBy(step["individual_digits"] === true ? /\p{N}/gu : /\p{N}+/gu);
    case "ByteLevel": {
      const words = step["use_regex"] === false ? undefined : splitBy(translatePattern(GPT2_WORDS));
      const prefix: PreTokenizer = (texts) => texts.map((text) => (text.startsWith(" ") ? text : ` ${text}`));
      return inSequence([...(step["add_prefix_space"] === true ? [prefix] : []), ...(words ? [words] : [])]);
    }
    case "Split": {
      const behavior = step["behavior"];
      const pattern = readPattern(step["pattern"], name);
      if (step["invert"] === true) {
        // The matches are what lies between: they stay, and what is not matched is the delimiter.
        if (behavior === "Removed") return (texts) => texts.flatMap((text) => text.match(pattern) ?? []);
        if (behavior === "Isolated") return splitBy(pattern);
      } else {
        if (behavior === "Isolated") return splitBy(pattern);
        if (behavior === "Removed") return splitBy(pattern, "between");
      }
      throw unsupported("pre_tokenizer Split behavior", behavior, name);
    }
    case "Metaspace": {
      const scheme = step["prepend_scheme"] ?? (step["add_prefix_space"] === false ? "never" : "always");
      const mark = text(step["replacement"] ?? SPACE, "pre_tokenizer replacement", name);
      const cut = splitBy(new RegExp(`${escapeRegExp(mark)}[^${escapeRegExp(mark)}]*`, "gu"));
      return (texts, isStart) => {
        const marked = texts.map((text, index) => {
          const spaced = text.replaceAll(" ", mark);
          const isPrefixed = scheme === "always" || (scheme === "first" && isStart && index === 0);
          return isPrefixed && !spaced.startsWith(mark) ? mark + spaced : spaced;
        });
        return step["split"] === false ? marked : cut(marked, isStart);
      };
    }
    default:
      throw unsupported("pre_tokenizer", step["type"], name);
  }
}

function readPattern(value: unknown, name: string): RegExp {
  const pattern = record(value, "pattern", name);
  if (typeof pattern["String"] === "string") return new RegExp(escapeRegExp(pattern["String"]), "gu");
  try {
    if (typeof pattern["Regex"] === "string") return translatePattern(pattern["Regex"]);
  } catch (cause) {
    throw new FormatError(`${name}: the pattern ${JSON.stringify(pattern["Regex"])} is not supported.`, { cause });
  }
  throw unsupported("pattern", Object.keys(pattern)[0], name);
}

function readDecoder(value: unknown, name: string): { isByteLevel: boolean; dropsFirstSpace: boolean } {
  const decoder = record(value, "decoder", name);
  const steps = decoder["type"] === "Sequence" ? list(decoder["decoders"], "decoder", name) : [decoder];
  let isByteLevel = false;
  let dropsFirstSpace = false;
  for (const inner of steps) {
    const step = record(inner, "decoder", name);
    switch (step["type"]) {
      case "ByteLevel":
        isByteLevel = true;
        break;
      case "Metaspace":
        dropsFirstSpace = step["prepend_scheme"] !== "never" && step["add_prefix_space"] !== false;
        break;
      case "Strip":
        if (step["content"] !== " " || step["start"] !== 1 || step["stop"] !== 0) {
          throw unsupported("decoder Strip", JSON.stringify(step), name);
        }
        dropsFirstSpace = true;
        break;
      case "Replace": // ▁ to a space
      case "ByteFallback":
      case "Fuse":
        break;
      default:
        throw unsupported("decoder", step["type"], name);
    }
  }
  return { isByteLevel, dropsFirstSpace };
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

function mentions(step: unknown, type: string): boolean {
  if (!isRecord(step)) return false;
  if (step["type"] === type) return true;
  return Array.isArray(step["pretokenizers"]) && step["pretokenizers"].some((inner) => mentions(inner, type));
}

function record(value: unknown, where: string, name: string): Json {
  if (!isRecord(value)) throw new FormatError(`${name}: ${where} must be an object, got ${describe(value)}.`);
  return value;
}

function list(value: unknown, where: string, name: string): unknown[] {
  if (!Array.isArray(value)) throw new FormatError(`${name}: ${where} must hold a list, got ${describe(value)}.`);
  return value;
}

function text(value: unknown, where: string, name: string): string {
  if (typeof value !== "string") throw new FormatError(`${name}: ${where} must be a string, got ${describe(value)}.`);
  return value;
}

function describe(value: unknown): string {
  return value === null ? "null" : Array.isArray(value) ? "a list" : typeof value;
}

function unsupported(where: string, value: unknown, name: string): FormatError {
  return new FormatError(`${name}: ${where} of type ${JSON.stringify(value)} is not supported.`);
}
