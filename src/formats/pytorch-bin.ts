/**
 * pytorch_model.bin: a ZIP with `<root>/data.pkl`, which describes the tensors, and `<root>/data/<key>`, the bytes of each
 * storage. Several tensors may look into one storage; each must be contiguous there (torch/serialization.py, `_save`).
 */
import { FormatError } from "../errors.ts";
import { blockLayout } from "../tensor/encoding.ts";
import { readBytes, type ByteSource } from "./bytes.ts";
import { elementCount, type TensorEntry } from "./checkpoint.ts";
import { isKind, MAX_PICKLE_BYTES, readPickle, type PickleValue } from "./pickle.ts";
import type { FloatEncoding } from "./safetensors.ts";
import { locateEntry, readZipDirectory, type StoredEntry } from "./stored-zip.ts";

const storages: Readonly<Record<string, FloatEncoding>> = {
  "torch.FloatStorage": "F32",
  "torch.HalfStorage": "F16",
  "torch.BFloat16Storage": "BF16",
};
const REBUILD_TENSOR = "torch._utils._rebuild_tensor_v2";
const REBUILD_PARAMETER = "torch._utils._rebuild_parameter";
const allowed = new Set([...Object.keys(storages), REBUILD_TENSOR, REBUILD_PARAMETER, "collections.OrderedDict"]);

const MAX_RANK = 8;
/** `byteorder` holds "little" or "big". */
const MAX_BYTE_ORDER_BYTES = 16;

/**
 * Reads names, shapes and places of the tensors. Their bytes stay in the file, and nothing in it is run.
 * @throws {FormatError} naming the tensor and what is wrong with it.
 */
export async function readPytorchBin(source: ByteSource): Promise<Map<string, TensorEntry>> {
  await checkMagic(source);
  const archive = await readZipDirectory(source);
  const { root, pickleEntry } = findPickle(archive, source.name);
  await checkByteOrder(source, archive.get(`${root}byteorder`));

  const pickle = await readEntry(source, pickleEntry, MAX_PICKLE_BYTES);
  const state = readPickle(pickle, source.name, (name) => allowed.has(name));
  if (!isKind(state, "dict")) {
    throw new FormatError(`${source.name}: a dict of tensors was required. Save model.state_dict().`);
  }
  const tensors = new Map<string, TensorEntry>();
  const starts = new Map<string, number>(); // of the storages' data, by key
  for (const [name, value] of state.items) {
    if (typeof name !== "string") throw new FormatError(`${source.name}: a tensor's name must be text.`);
    const where = `${source.name}: tensor ${name}`;
    const tensor = describeTensor(value, where);
    const entry = archive.get(`${root}data/${tensor.key}`);
    const { bytes } = blockLayout[tensor.encoding];
    if (entry === undefined)
      throw new FormatError(`${where}: its storage data/${tensor.key} is missing from the file.`);
    const offset = tensor.offset * bytes;
    const byteLength = elementCount(tensor.shape) * bytes;
    if (offset + byteLength > entry.byteLength) {
      throw new FormatError(
        `${where} needs bytes ${offset} to ${offset + byteLength} of data/${tensor.key}, which has ${entry.byteLength}.`,
      );
    }
    const start = starts.get(tensor.key) ?? (await locateEntry(source, entry));
    starts.set(tensor.key, start);
    const { shape, encoding } = tensor;
    tensors.set(name, { name, shape, encoding, source, offset: start + offset, byteLength });
  }
  return tensors;
}

type Described = {
  readonly key: string;
  readonly encoding: FloatEncoding;
  /** Elements from the storage's start. */
  readonly offset: number;
  readonly shape: readonly number[];
};

/** _rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, …), perhaps inside _rebuild_parameter. */
function describeTensor(value: PickleValue, where: string): Described {
  const inner = isKind(value, "call") && value.name === REBUILD_PARAMETER ? value.args[0] : value;
  if (!isKind(inner, "call") || inner.name !== REBUILD_TENSOR) {
    throw new FormatError(`${where} must be a tensor. Save model.state_dict(), without optimizer or trainer state.`);
  }
  const [storage, offset, size, stride] = inner.args;
  const shape = counts(size, where, "size");
  const strides = counts(stride, where, "stride");
  if (!isCount(offset)) throw new FormatError(`${where}: its storage offset must be a whole number.`);

  let expected = 1;
  const isEmpty = shape.includes(0);
  for (const [axis, size] of [...shape.entries()].reverse()) {
    // The stride of an axis of one element is never used, and torch leaves it as it comes.
    if (!isEmpty && size !== 1 && strides[axis] !== expected) {
      throw new FormatError(
        `${where} must be contiguous, got strides [${strides.join(", ")}] for shape [${shape.join(", ")}]. Call .contiguous() before saving.`,
      );
    }
    expected *= size;
  }
  if (strides.length !== shape.length) throw new FormatError(`${where}: size and stride differ in length.`);
  return { ...describeStorage(storage, where), offset, shape };
}

/** The persistent id ("storage", class, key, device, elements). */
function describeStorage(value: PickleValue | undefined, where: string): Pick<Described, "key" | "encoding"> {
  const id = isKind(value, "persistent") && isKind(value.id, "tuple") ? value.id.items : [];
  const [word, type, key] = id;
  const encoding = isKind(type, "global") ? storages[type.name] : undefined;
  if (word !== "storage" || encoding === undefined || typeof key !== "string") {
    throw new FormatError(`${where}: its storage is not described as torch.save does it.`);
  }
  return { key, encoding };
}

function counts(value: PickleValue | undefined, where: string, what: string): readonly number[] {
  if (isKind(value, "tuple") && value.items.length <= MAX_RANK && value.items.every(isCount)) {
    return value.items;
  }
  throw new FormatError(`${where}: its ${what} must be a tuple of at most ${MAX_RANK} whole numbers.`);
}

function isCount(value: PickleValue | undefined): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

async function checkMagic(source: ByteSource): Promise<void> {
  const magic = await readBytes(source, 0, 4, "the first word");
  if (magic[0] === 0x50 && magic[1] === 0x4b) return;
  if (magic[0] === 0x80) {
    throw new FormatError(
      `${source.name}: this is the file format of torch before 1.6. Load it with torch.load and save it again, or convert it to safetensors.`,
    );
  }
  throw new FormatError(`${source.name}: a ZIP as torch.save writes it was required, got something else (at byte 0).`);
}

/** torch puts everything into one folder, named after the file that was first written. */
function findPickle(
  archive: ReadonlyMap<string, StoredEntry>,
  file: string,
): { readonly root: string; readonly pickleEntry: StoredEntry } {
  const pickles = [...archive.values()].filter(({ name }) => /^[^/]+\/data\.pkl$/.test(name));
  const [pickleEntry] = pickles;
  if (pickleEntry === undefined || pickles.length > 1) {
    throw new FormatError(`${file}: one data.pkl was required, got ${pickles.length}. Was it written by torch.save?`);
  }
  return { root: pickleEntry.name.slice(0, -"data.pkl".length), pickleEntry };
}

async function checkByteOrder(source: ByteSource, entry: StoredEntry | undefined): Promise<void> {
  if (entry === undefined) return; // torch before 2.1 wrote none, and was little-endian in practice
  const order = new TextDecoder().decode(await readEntry(source, entry, MAX_BYTE_ORDER_BYTES));
  if (order !== "little") {
    throw new FormatError(`${source.name}: byte order "little" was required, got ${JSON.stringify(order)}.`);
  }
}

async function readEntry(source: ByteSource, entry: StoredEntry, limit: number): Promise<Uint8Array> {
  if (entry.byteLength > limit) {
    throw new FormatError(
      `${source.name}: entry ${entry.name} must have at most ${limit} bytes, got ${entry.byteLength}.`,
    );
  }
  return readBytes(source, await locateEntry(source, entry), entry.byteLength, `entry ${entry.name}`);
}
