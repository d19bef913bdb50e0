/** Documents out of a text that comes in blocks. A document longer than a part is handed on in parts, whatever its length. */

/** A part of a document, perhaps its first and its last; most documents are one part. */
export type DocumentPart = { readonly text: string; readonly isFirst: boolean; readonly isLast: boolean };

/** The most UTF-16 units of a part; longer ones cost memory and gain nothing. */
const MAX_PART = 131_072;
/** How far back from the end of a part a good place to cut is looked for. */
const CUT_WINDOW = 4096;

/** Cuts a text at `separator`; line breaks around a document are no part of it. An empty separator makes all one document. */
export async function* splitDocuments(
  blocks: AsyncIterable<string>,
  separator: string,
  maxPart: number = MAX_PART,
): AsyncGenerator<DocumentPart> {
  let rest = "";
  let isFirst = true;
  let searched = 0; // no separator begins before
  function* takeParts(): Generator<DocumentPart> {
    while (rest.length > maxPart + CUT_WINDOW) {
      const cut = findCut(rest, maxPart);
      yield { text: rest.slice(0, cut), isFirst, isLast: false };
      isFirst = false;
      rest = rest.slice(cut);
      searched = Math.max(0, searched - cut);
    }
  }
  for await (const block of blocks) {
    rest += block;
    if (isFirst && searched === 0) rest = rest.replace(/^[\r\n]+/, "");
    if (separator !== "") {
      for (let at = rest.indexOf(separator, searched); at >= 0; at = rest.indexOf(separator, searched)) {
        const after = rest.slice(at + separator.length).replace(/^[\r\n]+/, "");
        rest = rest.slice(0, at);
        yield* takeParts();
        yield { text: trimEnd(rest), isFirst, isLast: true };
        rest = after;
        isFirst = true;
        searched = 0;
      }
      searched = Math.max(0, rest.length - separator.length + 1);
    }
    yield* takeParts();
  }
  if (rest !== "" || !isFirst) yield { text: trimEnd(rest), isFirst, isLast: true };
}

/** Cuts a document that is there as a whole into parts. */
export function* partsOf(text: string, maxPart: number = MAX_PART): Generator<DocumentPart> {
  let start = 0;
  while (text.length - start > maxPart + CUT_WINDOW) {
    const length = findCut(text.slice(start, start + maxPart), maxPart);
    yield { text: text.slice(start, start + length), isFirst: start === 0, isLast: false };
    start += length;
  }
  yield { text: text.slice(start), isFirst: start === 0, isLast: true };
}

/** A text is cut before the last single space between letters, for there every tokenizer begins a new word. */
function findCut(text: string, maxPart: number): number {
  const start = Math.max(1, maxPart - CUT_WINDOW);
  const window = text.slice(start, maxPart);
  for (let at = window.lastIndexOf(" "); at > 0; at = window.lastIndexOf(" ", at - 1)) {
    if (/^\p{L} \p{L}/u.test(window.slice(at - 1, at + 3))) return start + at;
  }
  const isInsidePair = /[\uD800-\uDBFF]/.test(text.charAt(maxPart - 1));
  return isInsidePair ? maxPart - 1 : maxPart;
}

function trimEnd(text: string): string {
  return text.replace(/[\r\n]+$/, "");
}
