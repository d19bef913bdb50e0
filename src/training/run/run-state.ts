/** What a run needs besides weights and moments to go on exactly: saved as run.json inside each checkpoint. */
import { FormatError } from "../../errors.ts";
import type { LoaderPosition } from "../data/loader.ts";
import { number, object, optional, ShapeMismatch } from "./json-shape.ts";

/** Sizes, in bytes, of the files that grow: what lies beyond was written by steps that a resumed run does again. */
export type FileOffsets = { readonly metrics: number; readonly events: number };

/** The lowest held-out loss, in nats per token, and where it was. */
export type BestLoss = { readonly step: number; readonly loss: number; readonly bitsPerByte: number };

/** All that goes into run.json. */
export type RunState = {
  readonly version: 1;
  readonly step: number;
  /** Held-out loss and samples are done for the steps up to this one; -1: not even for the start. */
  readonly reportedStep: number;
  readonly tokens: number;
  readonly elapsedMs: number;
  /** The loss of the first step, which an explosion is measured against. */
  readonly firstLoss: number | undefined;
  /** The loss of the last step. */
  readonly lastLoss: number | undefined;
  readonly best: BestLoss | undefined;
  readonly position: LoaderPosition;
  readonly offsets: FileOffsets;
};

const count = number({ isWhole: true, min: 0 });
const shape = object({
  version: number({ isWhole: true, min: 1, max: 1 }),
  step: count,
  reportedStep: number({ isWhole: true, min: -1 }),
  tokens: count,
  elapsedMs: number({ min: 0 }),
  firstLoss: optional(number()),
  lastLoss: optional(number()),
  best: optional(object({ step: count, loss: number(), bitsPerByte: number() })),
  /** Checked by the loader. */
  position: (value: unknown) => value as LoaderPosition,
  offsets: object({ metrics: count, events: count }),
});

/** Reads run.json. @param file for messages. @throws {FormatError} naming the field that is wrong. */
export function parseRunState(json: string, file: string): RunState {
  try {
    return { ...shape(JSON.parse(json), ""), version: 1 };
  } catch (cause) {
    if (!(cause instanceof ShapeMismatch || cause instanceof SyntaxError)) throw cause;
    throw new FormatError(`${file}: ${cause.message} Resume from another checkpoint.`, { cause });
  }
}
