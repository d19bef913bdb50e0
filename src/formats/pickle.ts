/**
 * A pickle is a program for a stack machine that may call any Python function: loading one from a stranger is running the
 * stranger's code. This reader knows the opcodes that torch.save emits and a list of names, and calls nothing:
 * `REDUCE` builds a plain record here or is refused (protocols 2 to 5, PEP 307, 3154, 574; Lib/pickletools.py).
 */
import { FormatError } from "../errors.ts";

/** 500 tensors take about 60 kB. */
export const MAX_PICKLE_BYTES: number = 16 * 1024 * 1024;
/** Stack, memo and open marks are arrays that hostile bytes could grow without end. */
const MAX_STACK = 1_000_000;
const MAX_MEMO = 1_000_000;
const MAX_MARKS = 1000;
const MAX_OPCODES = 10_000_000;
/** Names are short; LONG1 holds at most an int64. */
const MAX_TEXT_BYTES = 65_536;

export type Tuple = { readonly kind: "tuple"; readonly items: readonly PickleValue[] };
export type List = { readonly kind: "list"; readonly items: PickleValue[] };
export type Dict = { readonly kind: "dict"; readonly items: Map<PickleValue, PickleValue> };
/** A Python name such as `torch.FloatStorage`: a word, nothing that could be called. */
export type Global = { readonly kind: "global"; readonly name: string };
export type Persistent = { readonly kind: "persistent"; readonly id: PickleValue };
export type Call = { readonly kind: "call"; readonly name: string; readonly args: readonly PickleValue[] };
export type PickleValue = null | boolean | number | string | Tuple | List | Dict | Global | Persistent | Call;

/**
 * Reads a pickle into plain values.
 * @param isAllowed names that may appear; any other is a FormatError that says which.
 */
export function readPickle(bytes: Uint8Array, file: string, isAllowed: (name: string) => boolean): PickleValue {
  if (bytes.length > MAX_PICKLE_BYTES) {
    throw new FormatError(`${file}: the pickle must have at most ${MAX_PICKLE_BYTES} bytes, got ${bytes.length}.`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const stack: PickleValue[] = [];
  const marks: number[] = [];
  const memo = new Map<number, PickleValue>();
  let at = 0;
  let opcodeAt = 0;

  const fail = (what: string): FormatError =>
    new FormatError(`${file}: ${what} (at byte ${opcodeAt} of the pickle). Damaged, or not a file of weights.`);
  const take = (length: number): number => {
    if (length > bytes.length - at) throw fail("the pickle ends early");
    const start = at;
    at += length;
    return start;
  };
  const text = (length: number): string => {
    if (length > MAX_TEXT_BYTES) throw fail(`a text must have at most ${MAX_TEXT_BYTES} bytes, got ${length}`);
    const start = take(length);
    return new TextDecoder().decode(bytes.subarray(start, start + length));
  };
  const line = (): string => {
    const end = bytes.indexOf(0x0a, at);
    if (end < 0) throw fail("the pickle ends early");
    const found = text(end - at);
    at = end + 1;
    return found;
  };
  const push = (value: PickleValue): void => {
    if (stack.length >= MAX_STACK) throw fail(`more than ${MAX_STACK} values are on the stack`);
    stack.push(value);
  };
  const pop = (): PickleValue => {
    if (stack.length <= (marks.at(-1) ?? 0)) throw fail("a value is missing from the stack");
    return stack.pop()!;
  };
  const popToMark = (): PickleValue[] => {
    const mark = marks.pop();
    if (mark === undefined) throw fail("a mark is missing from the stack");
    return stack.splice(mark);
  };
  const put = (key: number): void => {
    if (memo.size >= MAX_MEMO) throw fail(`more than ${MAX_MEMO} values are remembered`);
    const value = pop();
    stack.push(value);
    memo.set(key, value);
  };
  const get = (key: number): void => {
    const value = memo.get(key);
    if (value === undefined) throw fail(`value ${key} was never remembered`);
    push(value);
  };
  const pushTuple = (items: readonly PickleValue[]): void => push({ kind: "tuple", items });
  const popMany = (count: number): PickleValue[] => {
    const items: PickleValue[] = [];
    for (let i = 0; i < count; i++) items.unshift(pop());
    return items;
  };
  const pushGlobal = (module: string, name: string): void => {
    const full = `${module}.${name}`;
    if (!isAllowed(full)) {
      throw new FormatError(
        `${file}: a pickle may run code; this one asks for ${full}. Only tensors of float32, float16 and bfloat16 are read.`,
      );
    }
    push({ kind: "global", name: full });
  };
  const append = (items: readonly PickleValue[]): void => {
    const list = pop();
    if (!isKind(list, "list")) throw fail("a list was expected");
    for (const item of items) list.items.push(item);
    stack.push(list);
  };
  const setItems = (items: readonly PickleValue[]): void => {
    const dict = pop();
    if (!isKind(dict, "dict") || items.length % 2 !== 0) throw fail("a dict with pairs was expected");
    for (let i = 0; i < items.length; i += 2) dict.items.set(items[i]!, items[i + 1]!);
    stack.push(dict);
  };
  const reduce = (): void => {
    const args = pop();
    const target = pop();
    if (!isKind(target, "global") || !isKind(args, "tuple")) throw fail("a call of something that is no name");
    if (target.name === "collections.OrderedDict" && args.items.length === 0) push({ kind: "dict", items: new Map() });
    else push({ kind: "call", name: target.name, args: args.items });
  };

  for (let count = 0; count < MAX_OPCODES; count++) {
    opcodeAt = at;
    const opcode = bytes[take(1)]!;
    switch (opcode) {
      case 0x80: {
        const protocol = bytes[take(1)]!;
        if (protocol < 2 || protocol > 5) throw fail(`the pickle protocol must be 2 to 5, got ${protocol}`);
        break;
      }
      case 0x95: // FRAME: a hint for buffering
        take(8);
        break;
      case 0x2e: {
        const result = pop(); // STOP
        if (stack.length > 0 || marks.length > 0) throw fail("values are left on the stack");
        return result;
      }
      case 0x28: // MARK
        if (marks.length >= MAX_MARKS) throw fail(`more than ${MAX_MARKS} marks are open`);
        marks.push(stack.length);
        break;
      case 0x30: // POP
        pop();
        break;
      case 0x31: // POP_MARK
        popToMark();
        break;
      case 0x4e: // NONE
        push(null);
        break;
      case 0x88: // NEWTRUE
        push(true);
        break;
      case 0x89: // NEWFALSE
        push(false);
        break;
      case 0x4a: // BININT
        push(view.getInt32(take(4), true));
        break;
      case 0x4b: // BININT1
        push(bytes[take(1)]!);
        break;
      case 0x4d: // BININT2
        push(view.getUint16(take(2), true));
        break;
      case 0x8a: // LONG1
        push(longOf(bytes, take, fail));
        break;
      case 0x47: // BINFLOAT, big-endian
        push(view.getFloat64(take(8), false));
        break;
      case 0x58: // BINUNICODE
        push(text(view.getUint32(take(4), true)));
        break;
      case 0x8c: // SHORT_BINUNICODE
        push(text(bytes[take(1)]!));
        break;
      case 0x5d: // EMPTY_LIST
        push({ kind: "list", items: [] });
        break;
      case 0x61: // APPEND
        append([pop()]);
        break;
      case 0x65: // APPENDS
        append(popToMark());
        break;
      case 0x29: // EMPTY_TUPLE
        pushTuple([]);
        break;
      case 0x74: // TUPLE
        pushTuple(popToMark());
        break;
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: // TUPLE3
        pushTuple(popMany(opcode - 0x84));
        break;
      case 0x7d: // EMPTY_DICT
        push({ kind: "dict", items: new Map() });
        break;
      case 0x73: // SETITEM
        setItems(popMany(2));
        break;
      case 0x75: // SETITEMS
        setItems(popToMark());
        break;
      case 0x68: // BINGET
        get(bytes[take(1)]!);
        break;
      case 0x6a: // LONG_BINGET
        get(view.getUint32(take(4), true));
        break;
      case 0x71: // BINPUT
        put(bytes[take(1)]!);
        break;
      case 0x72: // LONG_BINPUT
        put(view.getUint32(take(4), true));
        break;
      case 0x94: // MEMOIZE
        put(memo.size);
        break;
      case 0x63: {
        const module = line(); // GLOBAL
        pushGlobal(module, line());
        break;
      }
      case 0x93: {
        const [module, name] = popMany(2); // STACK_GLOBAL
        if (typeof module !== "string" || typeof name !== "string") throw fail("a name must be text");
        pushGlobal(module, name);
        break;
      }
      case 0x51: // BINPERSID
        push({ kind: "persistent", id: pop() });
        break;
      case 0x52: // REDUCE
        reduce();
        break;
      case 0x62: {
        pop(); // BUILD: a state dict's `_metadata` (module versions), of no use here
        if (!isKind(stack.at(-1), "dict")) throw fail("attributes of something that is no dict");
        break;
      }
      default:
        throw fail(`opcode 0x${opcode.toString(16).padStart(2, "0")} is not one that torch.save writes`);
    }
  }
  throw fail(`the pickle has more than ${MAX_OPCODES} opcodes`);
}

export function isKind<K extends "tuple" | "list" | "dict" | "global" | "persistent" | "call">(
  value: PickleValue | undefined,
  kind: K,
): value is Extract<PickleValue, { readonly kind: K }> {
  return typeof value === "object" && value !== null && value.kind === kind;
}

/** A little-endian two's complement integer of at most 8 bytes. */
function longOf(bytes: Uint8Array, take: (length: number) => number, fail: (what: string) => FormatError): number {
  const length = bytes[take(1)]!;
  if (length > 8) throw fail(`an integer must have at most 8 bytes, got ${length}`);
  const start = take(length);
  let value = 0n;
  for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[start + i]!);
  return Number(BigInt.asIntN(length * 8, value));
}
