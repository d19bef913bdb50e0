/** The steps of tokenizer.json around its model (huggingface/tokenizers): normalizer, pre-tokenizer, decoder. */
import { FormatError } from "../errors.ts";
import { escapeRegExp } from "./added-tokens.ts";
import { inSequence, splitBy, type PreTokenizer } from "./bpe-tokenizer.ts";
import { GPT2_WORDS, translatePattern } from "./byte-level.ts";
import { isRecord, list, record, show, text, unsupported, type Json } from "./json-checks.ts";
import { SPACE } from "./sentencepiece.ts";

/** Reads `normalizer`: what is done to a text before it is cut. */
export function readNormalizer(value: unknown, name: string): (text: string) => string {
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

/** Reads `pre_tokenizer`: how a text is cut into words. */
export function readPreTokenizer(value: unknown, name: string): PreTokenizer {
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
    case "Split":
      return readSplit(step, name);
    case "Metaspace":
      return readMetaspace(step, name);
    default:
      throw unsupported("pre_tokenizer", step["type"], name);
  }
}

function readSplit(step: Json, name: string): PreTokenizer {
  const behavior = step["behavior"];
  const pattern = readPattern(step["pattern"], name);
  if (behavior === "Isolated") return splitBy(pattern);
  if (behavior !== "Removed") throw unsupported("pre_tokenizer Split behavior", behavior, name);
  // Inverted, the matches are what lies between: they stay, and what is not matched is the delimiter.
  if (step["invert"] === true) return (texts) => texts.flatMap((text) => text.match(pattern) ?? []);
  return splitBy(pattern, "between");
}

function readMetaspace(step: Json, name: string): PreTokenizer {
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

function readPattern(value: unknown, name: string): RegExp {
  const pattern = record(value, "pattern", name);
  if (typeof pattern["String"] === "string") return new RegExp(escapeRegExp(pattern["String"]), "gu");
  try {
    if (typeof pattern["Regex"] === "string") return translatePattern(pattern["Regex"]);
  } catch (cause) {
    throw new FormatError(`${name}: the pattern ${show(pattern["Regex"])} is not supported.`, { cause });
  }
  throw unsupported("pattern", Object.keys(pattern)[0], name);
}

/** Reads `decoder`: how entries of the vocabulary become text again. */
export function readDecoder(value: unknown, name: string): { isByteLevel: boolean; dropsFirstSpace: boolean } {
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
          throw unsupported("decoder Strip", step["content"], name);
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

/** Whether a pre-tokenizer is of a type, or has a step that is. */
export function mentions(step: unknown, type: string): boolean {
  if (!isRecord(step)) return false;
  if (step["type"] === type) return true;
  return Array.isArray(step["pretokenizers"]) && step["pretokenizers"].some((inner) => mentions(inner, type));
}
