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

/** A Python tuple. */
export type Tuple = { readonly kind: "tuple"; readonly items: readonly PickleValue[] };
/** A Python list. */
export type List = { readonly kind: "list"; readonly items: PickleValue[] };
/** A Python dict, or an OrderedDict. */
export type Dict = { readonly kind: "dict"; readonly items: Map<PickleValue, PickleValue> };
/** A Python name such as `torch.FloatStorage`: a word, nothing that could be called. */
export type Global = { readonly kind: "global"; readonly name: string };
/** A reference to something outside of the pickle, such as a storage: `id` says to what. */
export type Persistent = { readonly kind: "persistent"; readonly id: PickleValue };
/** A call that the pickle asks for, which is never made. */
export type Call = { readonly kind: "call"; readonly name: string; readonly args: readonly PickleValue[] };
/** All that a pickle can hold here. */
export type PickleValue = null | boolean | number | string | Tuple | List | Dict | Global | Persistent | Call;

/**
 * Reads a pickle into plain values.
 * @param isAllowed names that may appear; any other is a FormatError that says which.
 */
export function readPickle(bytes: Uint8Array, file: string, isAllowed: (name: string) => boolean): PickleValue {
  if (bytes.length > MAX_PICKLE_BYTES) {
    throw new FormatError(`${file}: the pickle must have at most ${MAX_PICKLE_BYTES} bytes, got ${bytes.length}.`);
  }
  const input = createInput(bytes, file);
  const stack = createStack(input.fail);
  const pushGlobal = (module: string, name: string): void => {
    const full = `${module}.${name}`;
    if (!isAllowed(full)) {
      throw new FormatError(
        `${file}: a pickle may run code; this one asks for ${full}. Only tensors of float32, float16 and bfloat16 are read.`,
      );
    }
    stack.push({ kind: "global", name: full });
  };
  for (let count = 0; count < MAX_OPCODES; count++) {
    const opcode = input.opcode();
    if (opcode === STOP) return stack.popLast();
    const step = steps.get(opcode);
    if (step === undefined) {
      throw input.fail(`opcode 0x${opcode.toString(16).padStart(2, "0")} is not one that torch.save writes`);
    }
    step(stack, input, pushGlobal);
  }
  throw input.fail(`the pickle has more than ${MAX_OPCODES} opcodes`);
}

/** Whether a value is of one of the kinds above; plain values are of none. */
export function isKind<K extends Kind>(
  value: PickleValue | undefined,
  kind: K,
): value is Extract<PickleValue, { readonly kind: K }> {
  return typeof value === "object" && value !== null && value.kind === kind;
}

type Kind = Extract<PickleValue, { readonly kind: unknown }>["kind"];
type Fail = (problem: string) => FormatError;
type Input = ReturnType<typeof createInput>;
type Stack = ReturnType<typeof createStack>;

/** The pickle's bytes, taken one after the other. */
function createInput(bytes: Uint8Array, file: string) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  let opcodeAt = 0;
  const fail: Fail = (problem) =>
    new FormatError(`${file}: ${problem} (at byte ${opcodeAt} of the pickle). Damaged, or not a file of weights.`);
  const take = (length: number): number => {
    if (length > bytes.length - at) throw fail("the pickle ends early");
    const start = at;
    at += length;
    return start;
  };
  const byte = (): number => view.getUint8(take(1));
  const text = (length: number): string => {
    if (length > MAX_TEXT_BYTES) throw fail(`a text must have at most ${MAX_TEXT_BYTES} bytes, got ${length}`);
    const start = take(length);
    return new TextDecoder().decode(bytes.subarray(start, start + length));
  };
  return {
    fail,
    take,
    byte,
    text,
    opcode(): number {
      opcodeAt = at;
      return byte();
    },
    uint16: (): number => view.getUint16(take(2), true),
    int32: (): number => view.getInt32(take(4), true),
    uint32: (): number => view.getUint32(take(4), true),
    /** The one big-endian number. */
    float64: (): number => view.getFloat64(take(8), false),
    /** A little-endian two's complement integer of at most 8 bytes. */
    long(): number {
      const length = byte();
      if (length > 8) throw fail(`an integer must have at most 8 bytes, got ${length}`);
      const start = take(length);
      let value = 0n;
      for (const digit of bytes.subarray(start, at).toReversed()) value = (value << 8n) | BigInt(digit);
      return Number(BigInt.asIntN(length * 8, value));
    },
    line(): string {
      const end = bytes.indexOf(0x0a, at);
      if (end < 0) throw fail("the pickle ends early");
      const found = text(end - at);
      at = end + 1;
      return found;
    },
  };
}

/** Values, marks between them, and values that are remembered by number. */
function createStack(fail: Fail) {
  const values: PickleValue[] = [];
  const marks: number[] = [];
  const memo = new Map<number, PickleValue>();

  const push = (value: PickleValue): void => {
    if (values.length >= MAX_STACK) throw fail(`more than ${MAX_STACK} values are on the stack`);
    values.push(value);
  };
  const pop = (): PickleValue => {
    const value = values.length > (marks.at(-1) ?? 0) ? values.pop() : undefined;
    if (value === undefined) throw fail("a value is missing from the stack");
    return value;
  };
  const popKind = <K extends Kind>(kind: K, problem: string): Extract<PickleValue, { readonly kind: K }> => {
    const value = pop();
    if (!isKind(value, kind)) throw fail(problem);
    return value;
  };
  return {
    push,
    pop,
    popKind,
    popLast(): PickleValue {
      const last = pop();
      if (values.length > 0 || marks.length > 0) throw fail("values are left on the stack");
      return last;
    },
    mark(): void {
      if (marks.length >= MAX_MARKS) throw fail(`more than ${MAX_MARKS} marks are open`);
      marks.push(values.length);
    },
    popToMark(): PickleValue[] {
      const mark = marks.pop();
      if (mark === undefined) throw fail("a mark is missing from the stack");
      return values.splice(mark);
    },
    remember(key: number = memo.size): void {
      if (memo.size >= MAX_MEMO) throw fail(`more than ${MAX_MEMO} values are remembered`);
      const value = pop();
      values.push(value);
      memo.set(key, value);
    },
    recall(key: number): void {
      const value = memo.get(key);
      if (value === undefined) throw fail(`value ${key} was never remembered`);
      push(value);
    },
    pushTuple(items: readonly PickleValue[]): void {
      push({ kind: "tuple", items });
    },
    append(items: readonly PickleValue[]): void {
      const list = popKind("list", "a list was expected");
      for (const item of items) list.items.push(item);
      values.push(list);
    },
    setItems(items: readonly PickleValue[]): void {
      const dict = popKind("dict", "a dict was expected");
      for (let i = 0; i < items.length; i += 2) {
        const [key, value] = items.slice(i, i + 2);
        if (key === undefined || value === undefined) throw fail("pairs were expected");
        dict.items.set(key, value);
      }
      values.push(dict);
    },
  };
}

type Step = (stack: Stack, input: Input, pushGlobal: (module: string, name: string) => void) => void;

const STOP = 0x2e;

/** What each opcode does. */
const steps: ReadonlyMap<number, Step> = new Map<number, Step>([
  // PROTO
  [
    0x80,
    (_, input) => {
      const protocol = input.byte();
      if (protocol < 2 || protocol > 5) throw input.fail(`the pickle protocol must be 2 to 5, got ${protocol}`);
    },
  ],
  [0x95, (_, input) => void input.take(8)], // FRAME: a hint for buffering
  [0x28, (stack) => stack.mark()], // MARK
  [0x30, (stack) => void stack.pop()], // POP
  [0x31, (stack) => void stack.popToMark()], // POP_MARK
  [0x4e, (stack) => stack.push(null)], // NONE
  [0x88, (stack) => stack.push(true)], // NEWTRUE
  [0x89, (stack) => stack.push(false)], // NEWFALSE
  [0x4a, (stack, input) => stack.push(input.int32())], // BININT
  [0x4b, (stack, input) => stack.push(input.byte())], // BININT1
  [0x4d, (stack, input) => stack.push(input.uint16())], // BININT2
  [0x8a, (stack, input) => stack.push(input.long())], // LONG1
  [0x47, (stack, input) => stack.push(input.float64())], // BINFLOAT
  [0x58, (stack, input) => stack.push(input.text(input.uint32()))], // BINUNICODE
  [0x8c, (stack, input) => stack.push(input.text(input.byte()))], // SHORT_BINUNICODE
  [0x5d, (stack) => stack.push({ kind: "list", items: [] })], // EMPTY_LIST
  [0x61, (stack) => stack.append([stack.pop()])], // APPEND
  [0x65, (stack) => stack.append(stack.popToMark())], // APPENDS
  [0x29, (stack) => stack.pushTuple([])], // EMPTY_TUPLE
  [0x74, (stack) => stack.pushTuple(stack.popToMark())], // TUPLE
  [0x85, (stack) => stack.pushTuple([stack.pop()])], // TUPLE1
  [0x86, (stack) => stack.pushTuple([stack.pop(), stack.pop()].reverse())], // TUPLE2
  [0x87, (stack) => stack.pushTuple([stack.pop(), stack.pop(), stack.pop()].reverse())], // TUPLE3
  [0x7d, (stack) => stack.push({ kind: "dict", items: new Map() })], // EMPTY_DICT
  [0x73, (stack) => stack.setItems([stack.pop(), stack.pop()].reverse())], // SETITEM
  [0x75, (stack) => stack.setItems(stack.popToMark())], // SETITEMS
  [0x68, (stack, input) => stack.recall(input.byte())], // BINGET
  [0x6a, (stack, input) => stack.recall(input.uint32())], // LONG_BINGET
  [0x71, (stack, input) => stack.remember(input.byte())], // BINPUT
  [0x72, (stack, input) => stack.remember(input.uint32())], // LONG_BINPUT
  [0x94, (stack) => stack.remember()], // MEMOIZE
  [0x63, (_, input, pushGlobal) => pushGlobal(input.line(), input.line())], // GLOBAL
  // STACK_GLOBAL
  [
    0x93,
    (stack, input, pushGlobal) => {
      const [name, module] = [stack.pop(), stack.pop()];
      if (typeof module !== "string" || typeof name !== "string") throw input.fail("a name must be text");
      pushGlobal(module, name);
    },
  ],
  [0x51, (stack) => stack.push({ kind: "persistent", id: stack.pop() })], // BINPERSID
  // REDUCE
  [
    0x52,
    (stack) => {
      const args = stack.popKind("tuple", "a call without arguments").items;
      const { name } = stack.popKind("global", "a call of something that is no name");
      const isEmptyDict = name === "collections.OrderedDict" && args.length === 0;
      stack.push(isEmptyDict ? { kind: "dict", items: new Map() } : { kind: "call", name, args });
    },
  ],
  // BUILD: a state dict's `_metadata` (module versions), of no use here
  [
    0x62,
    (stack) => {
      stack.pop();
      stack.push(stack.popKind("dict", "attributes of something that is no dict"));
    },
  ],
]);
